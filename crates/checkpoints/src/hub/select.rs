//! Which of a repository's files are the model.

use crate::checkpoint::WEIGHTS;

/// Folder and file.
fn parts(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// The files that loading a model needs: configurations, and in each folder the best form of the weights. Pictures,
/// texts, and the same weights in other forms are left out.
pub fn select<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let names: Vec<&str> = names.into_iter().collect();
    let mut chosen: Vec<&str> = Vec::new();
    let mut folders: Vec<&str> = names.iter().map(|name| parts(name).0).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        let here = || {
            names
                .iter()
                .copied()
                .filter(move |name| parts(name).0 == folder)
        };
        let best = WEIGHTS
            .iter()
            .find_map(|best| here().find(|name| parts(name).1 == *best));
        let Some(best) = best else { continue };
        chosen.push(best);
        if let Some(stem) = parts(best).1.strip_suffix(".safetensors.index.json") {
            let is_shard = |name: &&str| {
                let file = parts(name).1;
                file.ends_with(".safetensors")
                    && file
                        .strip_prefix(stem)
                        .is_some_and(|rest| rest.starts_with('-'))
            };
            chosen.extend(here().filter(is_shard));
        }
    }
    // Other models: this project's own, then files of training programs.
    for endings in [&[".safetensors"][..], &[".pth", ".pt", ".ckpt", ".bin"]] {
        if chosen.is_empty() {
            let fits = |name: &&str| endings.iter().any(|ending| name.ends_with(ending));
            chosen.extend(names.iter().copied().filter(fits));
        }
    }
    let is_config = |name: &&str| {
        let file = parts(name).1;
        file == "model_index.json" || file == "config.json" || file == "scheduler_config.json"
    };
    if !chosen.is_empty() {
        chosen.extend(names.iter().copied().filter(is_config));
    }
    let mut chosen: Vec<String> = chosen.into_iter().map(String::from).collect();
    chosen.sort();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::select;

    #[test]
    fn the_best_weights_and_their_configurations() {
        let flat = [
            "README.md",
            ".gitattributes",
            "images/a.png",
            "config.json",
            "model_index.json",
        ];
        let with = |more: &[&'static str]| select([&flat[..], more].concat());
        assert_eq!(
            with(&["diffusion_pytorch_model.bin", "scheduler_config.json"]),
            [
                "config.json",
                "diffusion_pytorch_model.bin",
                "model_index.json",
                "scheduler_config.json"
            ]
        );
        assert_eq!(
            with(&[
                "diffusion_pytorch_model.bin",
                "diffusion_pytorch_model.safetensors",
                "diffusion_pytorch_model.fp16.safetensors"
            ]),
            [
                "config.json",
                "diffusion_pytorch_model.safetensors",
                "model_index.json"
            ]
        );
        assert_eq!(
            select([
                "model_index.json",
                "unet/config.json",
                "unet/diffusion_pytorch_model.safetensors.index.json",
                "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
                "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
                "unet/diffusion_pytorch_model.bin",
                "scheduler/scheduler_config.json"
            ]),
            [
                "model_index.json",
                "scheduler/scheduler_config.json",
                "unet/config.json",
                "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
                "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
                "unet/diffusion_pytorch_model.safetensors.index.json"
            ]
        );
        assert_eq!(
            with(&["score.safetensors", "generator.safetensors"]),
            [
                "config.json",
                "generator.safetensors",
                "model_index.json",
                "score.safetensors"
            ]
        );
        assert_eq!(select(["a.pth", "notes.txt"]), ["a.pth"]);
        assert!(with(&[]).is_empty());
    }
}
