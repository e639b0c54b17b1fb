//! Which mutant is active in this run of the tests. Part of packages that xtask makes.

/// Its number, as `LB_MUTANT` says; 0 for none.
#[unsafe(no_mangle)]
static mut LB_ACTIVE_MUTANT: u32 = 0;

/// The same as the compiler may not read it: what it evaluates itself cannot be switched, and
/// has to be an error that says so.
mod foreign {
    unsafe extern "C" {
        pub(super) static LB_ACTIVE_MUTANT: u32;
    }
}

/// Runs before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    let number = std::env::var("LB_MUTANT").ok();
    if let Some(number) = number.and_then(|number| number.parse().ok()) {
        // SAFETY: there is one thread yet.
        unsafe { LB_ACTIVE_MUTANT = number };
        std::panic::set_hook(Box::new(|info| {
            eprintln!("{info}");
            // SAFETY: nothing is left to be done.
            unsafe { _exit(101) };
        }));
    }
}

unsafe extern "C" {
    fn _exit(code: i32) -> !;
}

/// The number of the mutant that is active.
#[inline(always)]
pub(crate) const fn active() -> u32 {
    // SAFETY: written before `main` only.
    unsafe { foreign::LB_ACTIVE_MUTANT }
}
