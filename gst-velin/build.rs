//! Tells the plugin its version and commit.

fn main() {
    gst_plugin_version_helper::info();
}
