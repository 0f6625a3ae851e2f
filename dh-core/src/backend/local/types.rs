//! The engine types people know from EC2. Here they are hints: nothing grows a machine beyond the one it runs on.

use std::collections::BTreeMap;

use crate::ports::EngineType;

/// Name, EC2 instance type, processors, GB of memory, GPUs, and the GPUs in words.
const TYPES: &[(&str, &str, u32, u32, u32, &str)] = &[
    ("cpu", "r6i.2xlarge", 8, 64, 0, ""),
    ("cpumax", "r7i.8xlarge", 32, 256, 0, ""),
    ("t4", "g4dn.2xlarge", 8, 32, 1, "T4 GPU, 16 GB VRAM"),
    ("a10g", "g5.2xlarge", 8, 32, 1, "A10G GPU, 24 GB VRAM"),
    ("a100", "p4d.24xlarge", 96, 1152, 8, "8x A100 GPU, 40 GB VRAM each"),
    ("4_t4", "g4dn.12xlarge", 48, 192, 4, "4x T4 GPU, 16 GB VRAM each"),
    ("8_t4", "g4dn.metal", 96, 384, 8, "8x T4 GPU, 16 GB VRAM each"),
    ("4_a10g", "g5.12xlarge", 48, 192, 4, "4x A10G GPU, 24 GB VRAM each"),
    ("8_a10g", "g5.48xlarge", 192, 768, 8, "8x A10G GPU, 24 GB VRAM each"),
];

/// Returns the engine types of the local backend by name.
pub fn engine_types() -> BTreeMap<String, EngineType> {
    let describe = |&(name, ec2, vcpus, memory_gb, gpus, words): &(&str, &str, u32, u32, u32, &str)| {
        let gpu = if gpus == 0 { String::new() } else { format!(", {words}") };
        let description = format!("as {ec2}: {vcpus} vCPU, {memory_gb} GB RAM{gpu}");
        (name.to_owned(), EngineType { description, instance_type: INSTANCE_TYPE.into(), vcpus, memory_gb, gpus })
    };
    TYPES.iter().map(describe).collect()
}

/// The hardware's name under the local backend, whatever the engine type.
pub(super) const INSTANCE_TYPE: &str = "local";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_types_are_there_with_their_hardware() {
        let types = engine_types();
        let names: Vec<&str> = types.keys().map(String::as_str).collect();
        assert_eq!(names, ["4_a10g", "4_t4", "8_a10g", "8_t4", "a100", "a10g", "cpu", "cpumax", "t4"]);
        assert_eq!((types["cpu"].vcpus, types["cpu"].memory_gb, types["cpu"].gpus), (8, 64, 0));
        assert!(types["a100"].description.contains("p4d.24xlarge") && types["a100"].description.contains("8x A100"));
    }
}
