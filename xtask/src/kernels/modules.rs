//! Which module files a kernel needs for what we use, in the order in which they go in.
//!
//! `modules.dep`, as depmod writes it, has a line for each module: its file, a colon, and the
//! files of all that it depends on, the most basic one last.

use std::collections::HashSet;

/// The files of `wanted` (names of modules) and of what they depend on, each once, each after
/// its dependencies; and those of `wanted` that there is no file for: they are built in, or
/// this kernel lacks them.
pub(super) fn resolve(modules_dep: &str, wanted: &[&str]) -> (Vec<String>, Vec<String>) {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut absent = Vec::new();
    for name in wanted {
        let line = modules_dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(file, _)| name_of(file) == *name);
        let Some((file, dependencies)) = line else {
            absent.push((*name).to_owned());
            continue;
        };
        let basic_first = dependencies.split_whitespace().rev();
        for file in basic_first.chain([file]) {
            if seen.insert(file) {
                files.push(file.to_owned());
            }
        }
    }
    (files, absent)
}

/// `nf_conntrack` of `kernel/net/netfilter/nf_conntrack.ko.xz`; the kernel takes `-` for `_`.
pub(super) fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name.split(".ko").next().unwrap_or(name);
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/lib/libcrc32c.ko: kernel/arch/x86/crypto/crc32c-intel.ko
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/net/netfilter/nf_conntrack.ko.xz: kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko.xz kernel/lib/libcrc32c.ko kernel/arch/x86/crypto/crc32c-intel.ko
kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko.xz:
kernel/drivers/net/veth.ko:
";

    #[test]
    fn dependencies_go_in_first_and_once() {
        let (files, absent) = resolve(DEP, &["veth", "nf_conntrack", "libcrc32c"]);
        let names: Vec<String> = files.iter().map(|file| name_of(file)).collect();
        let expected = [
            "veth",
            "crc32c_intel",
            "libcrc32c",
            "nf_defrag_ipv4",
            "nf_conntrack",
        ];
        assert_eq!(names, expected);
        assert!(absent.is_empty());
    }

    #[test]
    fn a_module_without_a_file_is_named() {
        let (files, absent) = resolve(DEP, &["ipv6", "veth"]);
        assert_eq!(files, ["kernel/drivers/net/veth.ko"]);
        assert_eq!(absent, ["ipv6"]);
    }

    #[test]
    fn only_whole_names_match() {
        assert_eq!(resolve(DEP, &["conntrack"]).1, ["conntrack"]);
    }
}
