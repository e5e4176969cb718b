//! What workers on a GPU are told through their environment.

use std::ffi::OsString;

use ekya_models::Placement;

use crate::config::DeviceConfig;

/// Bounds what libtorch takes of the GPU's memory: beyond it, it says that there is no more.
const MEMORY: &str = "PYTORCH_CUDA_ALLOC_CONF";
/// Bounds the multiprocessors that a process uses; read by CUDA where MPS runs, when it starts.
const PERCENTAGE: &str = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE";

/// Variables for the workers of a device; none on a CPU.
pub(super) fn variables(config: &DeviceConfig, placement: Placement) -> Vec<(OsString, OsString)> {
    if placement == Placement::Cpu {
        return Vec::new();
    }
    let fraction = config.gpu_memory_fraction;
    let memory = (
        MEMORY.into(),
        format!("per_process_memory_fraction:{fraction}").into(),
    );
    let percentage = config
        .mps_percentage
        .map(|percent| (PERCENTAGE.into(), percent.to_string().into()));
    [memory].into_iter().chain(percentage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ValidConfig;

    fn told(keys: &str, placement: Placement) -> Vec<String> {
        let text = format!(
            "[[device]]\nname = \"gpu0\"\n{keys}\n[[stream]]\nname = \"a\"\nsource = {{ scene = {{}} }}\n\
             student = {{ classifier = {{ weights = \"scene\" }} }}\nteacher = \"scene\"\n"
        );
        let config = ValidConfig::parse(&text).expect("a configuration");
        let variables = variables(&config.devices[0], placement);
        let text = |(name, value): &(OsString, OsString)| {
            format!("{}={}", name.display(), value.display())
        };
        variables.iter().map(text).collect()
    }

    #[test]
    fn workers_on_a_gpu_are_told_their_part_of_it() {
        let half = "PYTORCH_CUDA_ALLOC_CONF=per_process_memory_fraction:0.5";
        assert_eq!(told("", Placement::Cuda(0)), [half]);
        let keys = "gpu_memory_fraction = 0.25\nmps_percentage = 30";
        let both = [
            "PYTORCH_CUDA_ALLOC_CONF=per_process_memory_fraction:0.25",
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=30",
        ];
        assert_eq!(told(keys, Placement::Cuda(0)), both);
        assert!(told(keys, Placement::Cpu).is_empty());
    }
}
