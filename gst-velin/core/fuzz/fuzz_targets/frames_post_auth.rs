#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| velin_core_fuzz::targets::frames_post_auth::run(data));
