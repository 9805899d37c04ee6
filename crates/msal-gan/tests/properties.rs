//! What holds for any weights: gradients against differences, reconstruction, ranges, and errors that name the shapes.

mod common;

use candle_core::{DType, Device, ModuleT, Tensor, Var};
use common::{close, values, wave};
use msal_gan::detail::{
    DetailDiscriminatorConfig, DetailGeneratorConfig, Pass, hinge_discriminator, hinge_generator,
    l1,
};
use msal_gan::official::{
    Discriminator, DiscriminatorConfig, EightBit, Example, Generator, GeneratorConfig, LossConfig,
    LowInput, discriminator_step, generator_loss, generator_step, haar, sample,
};
use msal_gan::{DetailDiscriminator, DetailGenerator, ssim, ssim_per_picture};
use nn_ops::{AdamW, AdamWConfig, Params};

/// The derivative of `loss` along one direction through all variables, by back propagation and by differences, in f64.
fn check_directional(what: &str, vars: &[(String, Var)], loss: impl Fn() -> Tensor) {
    let grads = loss().backward().unwrap();
    let mut slope = 0f64;
    let mut moves = Vec::new();
    for (i, (_, var)) in vars.iter().enumerate() {
        let Some(g) = grads.get(var) else { continue };
        let direction = wave(var.dims(), i as f64).to_dtype(DType::F64).unwrap();
        slope += (g * &direction)
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap();
        moves.push((var, var.as_tensor().copy().unwrap(), direction));
    }
    assert!(moves.len() > 3, "{what}: {} gradients", moves.len());
    let at = |h: f64| {
        for (var, start, direction) in &moves {
            var.set(&(start + (direction * h).unwrap()).unwrap())
                .unwrap();
        }
        loss().to_scalar::<f64>().unwrap()
    };
    const H: f64 = 1e-6;
    let difference = (at(H) - at(-H)) / (2.0 * H);
    at(0.0);
    assert!(
        (slope - difference).abs() <= 1e-5 * difference.abs().max(1.0),
        "{what}: {slope}, by differences {difference}"
    );
}

fn f64s(shape: &[usize], seed: f64) -> Tensor {
    wave(shape, seed).to_dtype(DType::F64).unwrap()
}

fn small_generator() -> DetailGeneratorConfig {
    DetailGeneratorConfig {
        widths: vec![8, 16],
        noise_channels: 2,
        ..Default::default()
    }
}

fn small_discriminator() -> DetailDiscriminatorConfig {
    DetailDiscriminatorConfig {
        widths: vec![4, 6, 8],
        convs: 2,
        ..Default::default()
    }
}

#[test]
fn added_blocks_begin_as_identities() {
    let device = Device::Cpu;
    let (low, noise) = (f64s(&[2, 3, 4, 6], 0.1), f64s(&[2, 2, 4, 6], 0.2));
    for shared in [true, false] {
        let made = |blocks, seed| {
            let params = Params::new(seed);
            let vb = params.builder(&device).set_dtype(DType::F64);
            let config = DetailGeneratorConfig {
                blocks,
                shared,
                ..small_generator()
            };
            (DetailGenerator::new(config, vb).unwrap(), params)
        };
        let (small, theirs) = made(1, 1);
        let (large, params) = made(3, 2);
        let mut weights = theirs.tensors();
        let added = large.added_blocks(&params, &weights).unwrap();
        assert_eq!(added.len() + weights.len(), params.named().len());
        weights.extend(added);
        params.load(&weights).unwrap();
        let of = |net: &DetailGenerator| values(&net.forward(&low, &noise, 2).unwrap());
        let (a, b) = (of(&small), of(&large));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12));
        // A larger network's weights are no start for a smaller one, nor is anything else that is missing made up.
        weights.remove("first.weight");
        weights.remove("level1.first.weight");
        assert!(large.added_blocks(&params, &weights).unwrap().is_empty());
    }
}

#[test]
fn gradients_of_the_detail_networks() {
    let params = Params::new(1);
    let vb = params.builder(&Device::Cpu).set_dtype(DType::F64);
    let net = DetailGenerator::new(small_generator(), vb).unwrap();
    let (low, noise) = (f64s(&[2, 3, 4, 6], 0.1), f64s(&[2, 2, 4, 6], 0.2));
    check_directional("detail generator", &params.named(), || {
        net.forward(&low, &noise, 2)
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
    });

    let (params, buffers) = (Params::new(2), Params::new(3));
    let vb = params.builder(&Device::Cpu).set_dtype(DType::F64);
    let net = DetailDiscriminator::new(small_discriminator(), vb, &buffers).unwrap();
    let high = f64s(&[2, 9, 4, 6], 0.3);
    // Its power iteration is constant for the gradient but not for differences: converged, it makes no difference.
    for _ in 0..300 {
        net.forward(&low, &high, 1, Pass::Refine).unwrap();
    }
    check_directional("detail discriminator", &params.named(), || {
        net.forward(&low, &high, 1, Pass::Train)
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
    });
}

#[test]
fn generators_of_their_own_know_only_their_level() {
    let config = DetailGeneratorConfig {
        shared: false,
        ..small_generator()
    };
    let params = Params::new(4);
    let generator = DetailGenerator::new(config.clone(), params.builder(&Device::Cpu)).unwrap();
    let (low, noise) = (
        f64s(&[4, 3, 8, 8], 0.3).to_dtype(DType::F32).unwrap(),
        f64s(&[4, 2, 8, 8], 0.7).to_dtype(DType::F32).unwrap(),
    );
    let values = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mixed = || {
        values(
            generator
                .forward_mixed(&low, &noise, &[1, 2, 2, 1])
                .unwrap(),
        )
    };
    let alone = |i: usize, level: usize| {
        let (low, noise) = (low.narrow(0, i, 1).unwrap(), noise.narrow(0, i, 1).unwrap());
        values(generator.forward(&low, &noise, level).unwrap())
    };
    let before = mixed();
    assert_eq!(
        before,
        [alone(0, 1), alone(1, 2), alone(2, 2), alone(3, 1)].concat()
    );
    let named = params.named();
    assert!(
        named
            .iter()
            .all(|(name, _)| name.starts_with("level1.") || name.starts_with("level2."))
    );
    for (name, var) in named.iter().filter(|(name, _)| name.starts_with("level2.")) {
        let doubled = (var.as_tensor() * 2.0).unwrap();
        var.set(&doubled).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let (after, each) = (mixed(), before.len() / 4);
    for (i, level) in [1, 2, 2, 1].iter().enumerate() {
        let part = i * each..(i + 1) * each;
        assert_eq!(before[part.clone()] == after[part], *level == 1, "item {i}");
    }
    // A shared one has the names that it always had, and says nothing of sharing.
    let text = serde_json::to_string(&small_generator()).unwrap();
    assert!(!text.contains("shared"), "{text}");
    assert!(
        serde_json::to_string(&config)
            .unwrap()
            .contains("\"shared\":false")
    );
}

#[test]
fn gradients_of_the_official_networks() {
    let params = Params::new(1);
    let vb = params.builder(&Device::Cpu).set_dtype(DType::F64);
    let net = Generator::new(
        GeneratorConfig {
            n_channels: 2,
            ..Default::default()
        },
        vb,
    )
    .unwrap();
    let x = f64s(&[2, 6, 16, 32], 0.1);
    for train in [false, true] {
        check_directional("official generator", &params.named(), || {
            net.forward_t(&x, train)
                .unwrap()
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
        });
    }
    let params = Params::new(2);
    let vb = params.builder(&Device::Cpu).set_dtype(DType::F64);
    let config = DiscriminatorConfig {
        n_channels: 2,
        n_blocks: 2,
        ..Default::default()
    };
    let net = Discriminator::new(config, vb).unwrap();
    // Sizes whose halvings leave equal remainders: in f64 candle's own convolution serves, and fails to go back otherwise.
    let x = f64s(&[3, 3, 9, 5], 0.1);
    check_directional("official discriminator", &params.named(), || {
        // The same masks in every pass.
        net.dropout().set_step(5);
        net.forward_t(&x, true)
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
    });
}

#[test]
fn a_step_moves_its_own_network_and_lowers_its_loss() {
    let (g_params, d_params) = (Params::new(1), Params::new(2));
    let config = GeneratorConfig {
        n_channels: 2,
        ..Default::default()
    };
    let g = Generator::new(config, g_params.builder(&Device::Cpu)).unwrap();
    let config = DiscriminatorConfig {
        n_channels: 2,
        n_blocks: 2,
        dropout: 0.0,
        ..Default::default()
    };
    let d = Discriminator::new(config, d_params.builder(&Device::Cpu)).unwrap();
    let adam = |p: &Params| {
        AdamW::new(
            p.named(),
            AdamWConfig {
                lr: 1e-2,
                ..Default::default()
            },
        )
        .unwrap()
    };
    let (mut g_adam, mut d_adam) = (adam(&g_params), adam(&d_params));
    let learned = |p: &Params| -> Vec<f64> {
        let named = p
            .named()
            .into_iter()
            .filter(|(name, _)| !name.contains("running"));
        named.flat_map(|(_, v)| values(&v)).collect()
    };
    let target = wave(&[2, 3, 32, 32], 0.1).abs().unwrap();
    let (low, _) = haar::forward(&target).unwrap();
    let example = Example {
        noise: wave(low.dims(), 0.2),
        low,
        target,
    };
    let mut totals = Vec::new();
    for _ in 0..8 {
        let (before_g, before_d) = (learned(&g_params), learned(&d_params));
        let (loss, fake) =
            generator_step(&g, &d, &mut g_adam, &example, &LossConfig::default()).unwrap();
        totals.push(values(&loss.total)[0]);
        assert!(before_g != learned(&g_params) && before_d == learned(&d_params));
        let before_g = learned(&g_params);
        totals
            .push(values(&discriminator_step(&d, &mut d_adam, &fake, &example.target).unwrap())[0]);
        assert!(before_g == learned(&g_params) && before_d != learned(&d_params));
    }
    assert!(
        totals[14] < totals[0] && totals[15] < totals[1],
        "{totals:?}"
    );
    let wrong = Example {
        target: example.low.clone(),
        ..example
    };
    let error = generator_step(&g, &d, &mut g_adam, &wrong, &LossConfig::default()).unwrap_err();
    assert!(error.to_string().contains("[2, 3, 32, 32]"), "{error}");
}

#[test]
fn a_judging_pass_reaches_the_details_and_not_the_judge() {
    let (params, buffers) = (Params::new(2), Params::new(3));
    let net = DetailDiscriminator::new(
        small_discriminator(),
        params.builder(&Device::Cpu),
        &buffers,
    )
    .unwrap();
    let high = Var::from_tensor(&wave(&[1, 9, 4, 4], 0.3)).unwrap();
    let before = values(&buffers.tensors()["conv0.u"]);
    let y = net
        .forward(&wave(&[1, 3, 4, 4], 0.1), &high, 1, Pass::Judge)
        .unwrap();
    let grads = hinge_generator(&y).unwrap().backward().unwrap();
    assert!(
        values(grads.get(&high).unwrap())
            .iter()
            .any(|v| v.abs() > 1e-6)
    );
    assert!(params.named().iter().all(|(_, v)| grads.get(v).is_none()));
    assert_eq!(before, values(&buffers.tensors()["conv0.u"]));
}

#[test]
fn losses_are_their_formulas() {
    let t = |v: &[f32]| Tensor::new(v, &Device::Cpu).unwrap();
    let scalar = |t: Tensor| t.to_scalar::<f32>().unwrap();
    assert_eq!(
        scalar(hinge_discriminator(&t(&[2.0, 0.5]), &t(&[-3.0, 1.0])).unwrap()),
        0.25 + 1.0
    );
    assert_eq!(scalar(hinge_generator(&t(&[2.0, -4.0])).unwrap()), 1.0);
    assert_eq!(scalar(l1(&t(&[2.0, -4.0]), &t(&[1.0, 0.0])).unwrap()), 2.5);
}

#[test]
fn haar_is_orthonormal_and_inverts() {
    for shape in [[1, 1, 2, 2], [2, 3, 6, 10]] {
        let x = f64s(&shape, 0.1);
        let (low, high) = haar::forward(&x).unwrap();
        close(
            "reconstruction",
            &haar::inverse(&low, &high).unwrap(),
            &x,
            1e-14,
        );
        let energy = |t: &Tensor| values(t).iter().map(|v| v * v).sum::<f64>();
        assert!((energy(&low) + energy(&high) - energy(&x)).abs() < 1e-12 * energy(&x));
    }
    // A step between rows is in LH (cH), between columns in HL (cV), a saddle in HH (cD).
    for (block, band) in [
        ([1.0, 1.0, -1.0, -1.0], 0),
        ([1.0, -1.0, 1.0, -1.0], 1),
        ([1.0, -1.0, -1.0, 1.0], 2),
    ] {
        let (low, high) =
            haar::forward(&Tensor::from_slice(&block, (1, 1, 2, 2), &Device::Cpu).unwrap())
                .unwrap();
        let mut want = [0.0; 3];
        want[band] = 2.0;
        assert_eq!((values(&low), values(&high)), (vec![0.0], want.to_vec()));
    }
}

#[test]
fn similarity_of_equals_is_one_and_symmetric() {
    let (a, b) = (
        (wave(&[2, 3, 14, 9], 0.1).abs()).unwrap(),
        wave(&[2, 3, 14, 9], 0.7).abs().unwrap(),
    );
    close(
        "equals",
        &ssim_per_picture(&a, &a).unwrap(),
        &Tensor::ones(2, DType::F32, &Device::Cpu).unwrap(),
        1e-5,
    );
    close(
        "symmetry",
        &ssim(&a, &b).unwrap(),
        &ssim(&b, &a).unwrap(),
        1e-6,
    );
    assert!(values(&ssim(&a, &b).unwrap())[0] < 0.5);
}

#[test]
fn low_inputs() {
    let x = Tensor::new(&[-1.2f32, -1.0, 0.0, 0.3, 1.0, 1.4], &Device::Cpu).unwrap();
    let of = |input: LowInput| values(&input.to_band(&x).unwrap());
    assert_eq!(of(LowInput::Band), values(&x));
    assert_eq!(of(LowInput::UnitPicture)[4], 4.0);
    let near = |got: Vec<f64>, want: [f64; 6]| {
        assert!(
            got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5),
            "{got:?}"
        )
    };
    near(
        of(LowInput::SignedPicture(None)),
        [0.0, 0.0, 2.0, 2.6, 4.0, 4.0],
    );
    // 127.5 and 165.75 of 255.
    let levels = |v: [f64; 2]| [0.0, 0.0, v[0] * 4.0 / 255.0, v[1] * 4.0 / 255.0, 4.0, 4.0];
    near(
        of(LowInput::SignedPicture(Some(EightBit::Below))),
        levels([127.0, 165.0]),
    );
    near(
        of(LowInput::SignedPicture(Some(EightBit::Nearest))),
        levels([128.0, 166.0]),
    );
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let vb = || Params::new(0).builder(&Device::Cpu);
    let mut messages = vec![
        (
            Generator::new(
                GeneratorConfig {
                    n_channels: 3,
                    ..Default::default()
                },
                vb(),
            )
            .unwrap_err()
            .to_string(),
            "n_channels: 3",
        ),
        (
            Discriminator::new(
                DiscriminatorConfig {
                    dropout: 1.5,
                    ..Default::default()
                },
                vb(),
            )
            .unwrap_err()
            .to_string(),
            "1.5",
        ),
        (
            DetailGenerator::new(
                DetailGeneratorConfig {
                    widths: vec![12],
                    ..Default::default()
                },
                vb(),
            )
            .unwrap_err()
            .to_string(),
            "12",
        ),
    ];
    let official = Generator::new(
        GeneratorConfig {
            n_channels: 2,
            ..Default::default()
        },
        vb(),
    )
    .unwrap();
    let low = wave(&[1, 3, 16, 24], 0.0);
    messages.push((
        official.forward(&low, &low, false).unwrap_err().to_string(),
        "[1, 6, 16, 24]",
    ));
    let low = wave(&[1, 3, 16, 16], 0.0);
    let mut bad = |_: usize, _: &candle_core::Shape| Ok(wave(&[1, 3, 8, 8], 0.0));
    let error = sample(&official, &low, 1, &mut bad, &mut |_, _| Ok(())).unwrap_err();
    messages.push((error.to_string(), "[1, 3, 8, 8]"));
    let error = sample(&official, &low, 0, &mut bad, &mut |_, _| Ok(())).unwrap_err();
    messages.push((error.to_string(), "levels is 0"));
    let config = DiscriminatorConfig {
        n_channels: 2,
        n_blocks: 1,
        ..Default::default()
    };
    let judge = Discriminator::new(config, vb()).unwrap();
    messages.push((
        judge
            .forward_t(&wave(&[1, 4, 8, 8], 0.0), false)
            .unwrap_err()
            .to_string(),
        "[1, 4, 8, 8]",
    ));
    let (a, b) = (wave(&[1, 3, 8, 8], 0.0), wave(&[1, 3, 8, 4], 0.0));
    messages.push((ssim(&a, &b).unwrap_err().to_string(), "[1, 3, 8, 4]"));
    let logits = wave(&[1, 1], 0.0);
    messages.push((
        generator_loss(&logits, &a, &b, &LossConfig::default())
            .unwrap_err()
            .to_string(),
        "[1, 3, 8, 4]",
    ));
    messages.push((
        haar::forward(&wave(&[1, 3, 7, 8], 0.0))
            .unwrap_err()
            .to_string(),
        "[1, 3, 7, 8]",
    ));
    messages.push((
        haar::inverse(&a, &a).unwrap_err().to_string(),
        "(1, 9, 8, 8)",
    ));

    let detail = DetailGenerator::new(small_generator(), vb()).unwrap();
    let noise = wave(&[1, 2, 8, 8], 0.0);
    messages.push((
        detail.forward(&a, &a, 1).unwrap_err().to_string(),
        "noise (N, 2, H, W)",
    ));
    messages.push((
        detail.forward(&a, &noise, 3).unwrap_err().to_string(),
        "level 3",
    ));
    messages.push((
        detail.forward(&a, &noise, 0).unwrap_err().to_string(),
        "level 0",
    ));
    let odd = (wave(&[1, 3, 7, 8], 0.0), wave(&[1, 2, 7, 8], 0.0));
    messages.push((
        detail.forward(&odd.0, &odd.1, 1).unwrap_err().to_string(),
        "[1, 3, 7, 8]",
    ));
    for (message, part) in messages {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}
