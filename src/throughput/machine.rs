//! What a device is, in words, so that what was measured on another one is not taken for its own.

use std::fs;
use std::path::Path;

use ekya_models::Placement;

/// The hardware of a device: the CPU and the threads of a minibatch, or the GPUs of the machine.
#[must_use]
pub fn describe(placement: Placement, threads: usize) -> String {
    match placement {
        Placement::Cpu => format!("{}, {threads} threads", processor()),
        Placement::Cuda(index) => format!("cuda:{index} of {}", graphics()),
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    value(&text, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// All that the driver names: CUDA may number them in another order.
fn graphics() -> String {
    let folders = fs::read_dir("/proc/driver/nvidia/gpus");
    let folders = folders.into_iter().flatten().filter_map(Result::ok);
    let model = |folder: fs::DirEntry| model_of(&folder.path());
    let mut names: Vec<String> = folders.filter_map(model).collect();
    names.sort();
    if names.is_empty() {
        "unknown GPUs".to_owned()
    } else {
        names.join(" + ")
    }
}

fn model_of(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("information")).ok()?;
    value(&text, "Model")
}

/// The value of a line `key : value`.
fn value(text: &str, key: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.trim() == key)?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_linux_name_what_there_is() {
        let cpu = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\n";
        assert_eq!(
            value(cpu, "model name").as_deref(),
            Some("Some CPU @ 2.0GHz")
        );
        let gpu = "Model: \t\t NVIDIA A2\nIRQ:   \t\t 146\n";
        assert_eq!(value(gpu, "Model").as_deref(), Some("NVIDIA A2"));
        assert_eq!(value(gpu, "Name"), None);
    }
}
