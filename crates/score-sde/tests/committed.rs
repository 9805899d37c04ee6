//! Against improved-diffusion on formulas in place of networks' weights: every kind of mean, variance and loss, and the
//! U-Net options the golden folder lacks. `scripts/improved_diffusion.py` made the numbers.

mod common;

use candle_core::{Device, Result, Tensor, Var};
use common::{close_to, quiet};
use score_sde::diffusion::{
    GaussianDiffusion, LossType, MeanType, Schedule, VarType, space_timesteps,
};
use score_sde::sampler::{Ddim, ddim, ddim_reverse_step, ddpm};
use score_sde::{UNet, UNetConfig};
use std::collections::HashMap;
use std::path::Path;

fn load(name: &str) -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(name);
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

#[test]
fn processes_of_every_kind() {
    use {LossType as L, MeanType as M, Schedule as S, VarType as V};
    let io = load("process.safetensors");
    let cases = [
        (M::Epsilon, V::FixedSmall, L::Mse, S::Linear, 1000, "6"),
        (M::Epsilon, V::FixedLarge, L::Kl, S::Linear, 500, "ddim5"),
        (M::XStart, V::FixedLarge, L::Mse, S::Cosine, 1000, "4,2"),
        (
            M::Epsilon,
            V::LearnedRange,
            L::RescaledMse,
            S::Cosine,
            4000,
            "6",
        ),
        (
            M::XStart,
            V::LearnedRange,
            L::RescaledKl,
            S::Linear,
            1000,
            "3,3",
        ),
        (M::PreviousX, V::Learned, L::Mse, S::Cosine, 6, ""),
    ];
    for (n, (mean, var, loss, schedule, steps, spacing)) in cases.into_iter().enumerate() {
        let d = GaussianDiffusion::new(schedule.betas(steps).unwrap(), mean, var, loss).unwrap();
        let d = d
            .rescale_timesteps(n % 2 == 0)
            .respaced(&space_timesteps(steps, spacing).unwrap())
            .unwrap();
        let (a, b) = (
            Var::new(0.9f32, &Device::Cpu).unwrap(),
            Var::new(0.5f32, &Device::Cpu).unwrap(),
        );
        let model = |x: &Tensor, t: &Tensor| -> Result<Tensor> {
            let t = (t.reshape(((), 1, 1, 1))? * 0.001)?;
            let first = (x.broadcast_mul(&a)? + 0.3)?
                .tanh()?
                .broadcast_sub(&(&t * 0.2)?)?;
            if !var.is_learned() {
                return Ok(first);
            }
            let second = (x.broadcast_mul(&b)? - 0.2)?
                .broadcast_add(&(t * 0.5)?)?
                .tanh()?;
            Tensor::cat(&[first, second], 1)
        };
        let close = |name: &str, got: &Tensor, tolerance| {
            close_to(
                &format!("case {n}, {name}"),
                got,
                &io[&format!("{n}.{name}")],
                tolerance,
            );
        };

        let t = [0, 1, d.steps() - 1];
        let (x0, noise, zs) = (&io["x0"], &io["noise"], &io["zs"]);
        let losses = d.training_losses(&model, x0, &t, noise).unwrap();
        close("loss", &losses.loss, 1e-4);
        losses.mse.iter().for_each(|mse| close("mse", mse, 1e-4));
        losses.vb.iter().for_each(|vb| close("vb", vb, 1e-4));
        let grads = losses.loss.sum_all().unwrap().backward().unwrap();
        let grad = |v: &Var| {
            grads
                .get(v)
                .cloned()
                .unwrap_or_else(|| v.zeros_like().unwrap())
        };
        close(
            "grads",
            &Tensor::stack(&[grad(&a), grad(&b)], 0).unwrap(),
            1e-3,
        );

        let x_t = d.q_sample(x0, &t, noise).unwrap();
        close("x_t", &x_t, 1e-5);
        let p = d.p_mean_variance(&model, &x_t, &t, true).unwrap();
        close("p_mean", &p.mean, 1e-4);
        close("p_variance", &p.variance, 1e-4);
        close("p_log_variance", &p.log_variance, 1e-4);
        close("p_pred_xstart", &p.pred_xstart, 1e-4);
        close(
            "reverse",
            &ddim_reverse_step(&d, &model, &x_t, &t, true).unwrap(),
            1e-4,
        );

        let mut fresh = |i: usize, _: &Tensor| zs.get(i);
        let y = ddpm(
            &d,
            &model,
            io["start"].clone(),
            true,
            &mut fresh,
            &mut quiet,
        )
        .unwrap();
        close("ddpm", &y, 1e-4);
        let y = ddim(
            &d,
            &model,
            io["start"].clone(),
            &Ddim {
                eta: 0.5,
                clip: true,
                ..Ddim::default()
            },
            &mut fresh,
            &mut quiet,
        )
        .unwrap();
        close("ddim", &y, 1e-4);

        // The bound walks down the same noises.
        let mut fresh = |t: usize, _: &Tensor| zs.get(d.steps() - 1 - t);
        let bound = d.calc_bpd_loop(&model, x0, &mut fresh, true).unwrap();
        close("bpd_total_bpd", &bound.total, 1e-4);
        close("bpd_prior_bpd", &bound.prior, 1e-4);
        close("bpd_vb", &bound.vb, 1e-4);
        close("bpd_xstart_mse", &bound.xstart_mse, 1e-4);
        close("bpd_mse", &bound.mse, 1e-4);
    }
}

#[test]
fn unets_with_other_options() {
    let shared =
        r#""in_channels": 3, "model_channels": 32, "num_res_blocks": 1, "channel_mult": [1, 2]"#;
    let options = [
        r#""out_channels": 6, "attention_resolutions": [2], "num_heads": 2, "num_heads_upsample": 4, "num_classes": 3,
           "conv_resample": false, "use_scale_shift_norm": true"#,
        r#""out_channels": 3, "attention_resolutions": [1], "num_heads": 1, "num_heads_upsample": -1,
           "conv_resample": true, "use_scale_shift_norm": false, "dropout": 0.1"#,
    ];
    for (n, option) in options.iter().enumerate() {
        let config: UNetConfig = serde_json::from_str(&format!("{{{shared}, {option}}}")).unwrap();
        let label = config
            .num_classes
            .map(|_| Tensor::new(&[2u32, 0], &Device::Cpu).unwrap());
        let params = nn_ops::Params::new(0);
        let net = UNet::new(config, params.builder(&Device::Cpu)).unwrap();
        let vars = params.named();
        for (k, (name, var)) in vars.iter().enumerate() {
            let (flat, count) = (var.rank() == 1, var.elem_count());
            let one = f64::from(u8::from(flat && name.ends_with("weight")));
            let scale = if flat {
                0.1
            } else {
                (count as f64 / var.dims()[0] as f64).powf(-0.5)
            };
            let wave: Vec<f32> = (0..count)
                .map(|i| (one + scale * (1.3 * i as f64 + k as f64).sin()) as f32)
                .collect();
            var.set(&Tensor::from_vec(wave, var.shape(), &Device::Cpu).unwrap())
                .unwrap();
        }
        let io = load(&format!("unet-{n}.safetensors"));
        let x = Var::from_tensor(&io["x"]).unwrap();
        let y = net.forward(&x, &io["t"], label.as_ref(), None).unwrap();
        close_to(&format!("unet-{n} y"), &y, &io["y"], 1e-4);
        let grads = (y * &io["w"])
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        close_to(
            &format!("unet-{n} grad_x"),
            grads.get(&x).unwrap(),
            &io["grad_x"],
            1e-3,
        );
        let dots = vars.iter().map(|(_, var)| {
            let grad = grads
                .get(var)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            grad.iter()
                .enumerate()
                .map(|(i, g)| *g as f64 * (0.7 * i as f64).sin())
                .sum::<f64>() as f32
        });
        let dots = Tensor::new(dots.collect::<Vec<f32>>(), &Device::Cpu).unwrap();
        close_to(
            &format!("unet-{n} parameters"),
            &dots,
            &io["grad_dots"],
            1e-3,
        );
    }
}
