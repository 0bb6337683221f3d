#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| velin_core_fuzz::targets::opus_blocks::run(data));
