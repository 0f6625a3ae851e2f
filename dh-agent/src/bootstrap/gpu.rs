//! The stage `gpu_drivers`: looks for NVIDIA devices, and for their driver where there are any.

use std::fs;
use std::path::PathBuf;

use dh_core::domain::Result;

use super::Done;

const NVIDIA: &str = "0x10de";

/// Where the kernel shows devices.
#[derive(Debug, Clone)]
pub struct Places {
    pub pci: PathBuf,
    pub dev: PathBuf,
    pub driver: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { pci: "/sys/bus/pci/devices".into(), dev: "/dev".into(), driver: "/proc/driver/nvidia/version".into() }
    }
}

/// Skips where there is no GPU, or none that this engine can use; else notes the driver's version.
pub fn drivers(places: &Places) -> Result<Done> {
    let (cards, nodes) = (cards(places), nodes(places));
    if cards == 0 && nodes == 0 {
        return Ok(Done::Skipped("no GPU on this machine".into()));
    }
    let found = cards.max(nodes);
    match fs::read_to_string(&places.driver) {
        Ok(version) => {
            let version =
                version.lines().next().unwrap_or_default().trim().trim_start_matches("NVRM version:").trim().to_owned();
            Ok(Done::Completed(Some(format!("{found} NVIDIA device(s), driver {version}"))))
        }
        Err(_) if nodes > 0 => {
            Ok(Done::Completed(Some(format!("{found} NVIDIA device(s); the driver tells no version"))))
        }
        Err(_) => {
            Ok(Done::Skipped(format!("{found} NVIDIA device(s), but their driver is not loaded on this machine")))
        }
    }
}

/// Counts display and compute controllers of NVIDIA on the PCI bus; their sound and USB functions are none.
fn cards(places: &Places) -> usize {
    let Ok(devices) = fs::read_dir(&places.pci) else { return 0 };
    devices
        .flatten()
        .filter(|device| {
            let read = |name| fs::read_to_string(device.path().join(name)).unwrap_or_default();
            read("vendor").trim() == NVIDIA && read("class").trim().starts_with("0x03")
        })
        .count()
}

/// Counts `/dev/nvidia0`, `/dev/nvidia1`, …: what a container is given without the bus.
fn nodes(places: &Places) -> usize {
    let Ok(devices) = fs::read_dir(&places.dev) else { return 0 };
    devices
        .flatten()
        .filter(|device| {
            let name = device.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("nvidia"));
            number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &std::path::Path) -> Places {
        let places = Places { pci: dir.join("pci"), dev: dir.join("dev"), driver: dir.join("version") };
        fs::create_dir(&places.pci).unwrap();
        fs::create_dir(&places.dev).unwrap();
        places
    }

    fn device(places: &Places, slot: &str, vendor: &str, class: &str) {
        let device = places.pci.join(slot);
        fs::create_dir(&device).unwrap();
        fs::write(device.join("vendor"), format!("{vendor}\n")).unwrap();
        fs::write(device.join("class"), format!("{class}\n")).unwrap();
    }

    #[test]
    fn without_a_gpu_the_stage_is_skipped_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        device(&places, "0000:00:02.0", "0x8086", "0x030000");
        device(&places, "0000:01:00.1", "0x10de", "0x040300");
        fs::write(places.dev.join("nvidia-caps"), "").unwrap();
        assert_eq!(drivers(&places).unwrap(), Done::Skipped("no GPU on this machine".into()));
        let nowhere = Places { pci: "/nowhere".into(), dev: "/nowhere".into(), driver: "/nowhere".into() };
        assert!(matches!(drivers(&nowhere).unwrap(), Done::Skipped(_)));
    }

    #[test]
    fn a_gpu_with_its_driver_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        device(&places, "0000:00:1e.0", "0x10de", "0x030200");
        assert!(matches!(drivers(&places).unwrap(), Done::Skipped(why) if why.contains("driver is not loaded")));
        fs::write(&places.driver, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54\nGCC\n").unwrap();
        let Done::Completed(Some(note)) = drivers(&places).unwrap() else { panic!() };
        assert!(note.starts_with("1 NVIDIA device(s), driver NVIDIA UNIX") && note.ends_with("550.54"), "{note}");
    }

    #[test]
    fn devices_given_to_a_container_count_without_the_bus() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        for name in ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"] {
            fs::write(places.dev.join(name), "").unwrap();
        }
        let Done::Completed(Some(note)) = drivers(&places).unwrap() else { panic!() };
        assert!(note.starts_with("2 NVIDIA device(s)"), "{note}");
    }
}
