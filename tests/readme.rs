//! What the documentation says, held: command lines are run, tables compared with the elements, named
//! tests looked up.
//!
//! A code block says in its first line what is done with it:
//!
//! - `sh together`: the lines are started one after the other and run at the same time, until every
//!   sender is connected; then each is ended with Ctrl-C and must end well. Devices are replaced by
//!   test sources and sinks, addresses and ports by free ones of this machine.
//! - `sh test`: each line is run to its end and must succeed.
//! - `sh preset`: each line runs a preset, which is checked.
//! - `sh`: not run here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gst::prelude::*;
use velin::proc::Process;
use velin::skipped;

const PAGES: [&str; 2] = ["README.md", "examples/gst-launch.md"];
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn every_line_for_gst_launch_works() {
    if skipped(plugin().map(drop)) {
        return;
    }
    for page in PAGES {
        for lines in blocks(page, "sh together") {
            let machine = Machine::new();
            machine.run_together(&lines);
        }
    }
}

#[test]
fn every_command_works() {
    if skipped(launcher().map(drop)) {
        return;
    }
    let machine = Machine::new();
    for page in PAGES {
        for line in blocks(page, "sh test").concat() {
            machine.run_to_its_end(&line);
        }
        for line in blocks(page, "sh preset").concat() {
            let preset = line.replace("velin-pipe run", "velin-pipe check");
            machine.run_to_its_end(preset.split(" --duration").next().unwrap());
        }
    }
}

#[test]
fn the_tables_list_every_property_with_its_default() {
    gst::init().unwrap();
    gstvelin::plugin_register_static().unwrap();
    let readme = read("README.md");
    for name in ["velinsink", "velinsrc"] {
        let heading = format!("### {name}\n");
        let (_, section) = readme.split_once(&heading).unwrap();
        let section = section.split("\n#").next().unwrap();
        let mut listed: Vec<_> = rows(section)
            .into_iter()
            .map(|cells| (cells[0].trim_matches('`').to_owned(), cells[1].clone()))
            .collect();
        listed.retain(|(property, _)| property != "property");
        listed.sort();

        let element = gst::ElementFactory::make(name).build().unwrap();
        let mut real: Vec<_> = element
            .list_properties()
            .iter()
            .filter(|p| p.owner_type() == element.type_())
            .map(|p| (p.name().to_owned(), shown(&element, p.name())))
            .collect();
        real.sort();
        assert_eq!(listed, real, "{name}");
    }
}

#[test]
fn the_table_of_streams_lists_every_property_with_its_default() {
    gst::init().unwrap();
    let readme = read("README.md");
    let (_, section) = readme.split_once("### Streams\n").unwrap();
    let mut listed: Vec<_> = rows(section.split("\n#").next().unwrap())
        .into_iter()
        .map(|cells| (cells[0].trim_matches('`').to_owned(), cells[1].clone()))
        .collect();
    listed.retain(|(property, _)| property != "property");
    listed.sort();

    let stream = gstvelin::velinsrc::Stream::static_type();
    let class = gst::glib::object::ObjectClass::from_type(stream).unwrap();
    let properties = class.list_properties();
    let mut real: Vec<_> = properties
        .iter()
        .filter(|p| p.owner_type() == stream)
        .map(|p| {
            let writable = p.flags().contains(gst::glib::ParamFlags::WRITABLE);
            let default = writable.then(|| p.default_value().serialize().unwrap());
            let default = default.map_or_else(|| "–".to_owned(), |text| format!("`{text}`"));
            (p.name().to_owned(), default)
        })
        .collect();
    real.sort();
    assert_eq!(listed, real);
}

#[test]
fn the_tables_list_every_message() {
    let readme = read("README.md");
    let mut real: Vec<String> = Vec::new();
    for file in sources(&root().join("gst-velin/src")) {
        let text = fs::read_to_string(file).unwrap();
        for (before, prefix) in [
            ("about_peer(\"", "velin/"),
            ("announce(\"", "velin/"),
            ("Structure::builder(\"velin/", "velin/"),
        ] {
            let found = text.split(before).skip(1).filter_map(|rest| rest.split('"').next());
            real.extend(found.map(|name| format!("{prefix}{name}")));
        }
    }
    real.sort();
    real.dedup();
    let (_, section) = readme.split_once("### Messages\n").unwrap();
    let section = section.split("\n#").next().unwrap();
    let mut listed: Vec<String> = rows(section)
        .iter()
        .flat_map(|cells| cells[0].split(", ").map(|name| name.trim_matches('`').to_owned()))
        .filter(|name| name.starts_with("velin/"))
        .collect();
    listed.sort();
    assert_eq!(listed, real);
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let mut missing = Vec::new();
    let (mut named, mut absent) = (0, Vec::new());
    for cells in rows(&read("docs/security.md")) {
        let shown_by = cells.last().unwrap();
        let mut text = None;
        for name in shown_by.split('`').skip(1).step_by(2) {
            if name.ends_with(".rs") {
                let path = root().join("gst-velin").join(name);
                text = fs::read_to_string(&path).ok();
                if text.is_none() && name.contains("tests") {
                    absent.push(name.to_owned());
                }
            } else if let Some(text) = &text {
                named += 1;
                if !text.contains(&format!("fn {name}(")) {
                    missing.push(name.to_owned());
                }
            }
        }
    }
    assert_eq!(missing, [""; 0]);
    assert!(named > 10, "only {named} tests are named");
    let there = if absent.is_empty() { Ok(()) } else { Err(format!("no {}", absent.join(", "))) };
    let _ = skipped(there);
}

#[test]
fn every_link_leads_somewhere() {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let top = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "examples/gst-launch.md"];
    let mut broken = Vec::new();
    for page in pages.chain(top.map(|name| root().join(name))) {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            let elsewhere = file.is_empty() || file.contains("://") || file.contains(' ');
            if !elsewhere && !page.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert_eq!(broken, [""; 0]);
}

/// A device with its own files and free ports.
struct Machine {
    folder: tempfile::TempDir,
    port: u16,
}

impl Machine {
    fn new() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        // What make test has filled is used, and not changed.
        if let Some(registry) = std::env::var_os("GST_REGISTRY") {
            let _ = fs::copy(registry, folder.path().join("registry"));
        }
        Self { folder, port }
    }

    fn run_together(&self, lines: &[String]) {
        let listener = |line: &str| match line.contains("velinsrc") {
            true => !line.contains("mode=caller"),
            false => line.contains("mode=listener"),
        };
        let listens = lines.iter().any(|line| listener(line));
        let mut running = Vec::new();
        for line in lines {
            let process = self.start(&self.adapted(line));
            process.wait_for_line("Setting pipeline to PLAYING", LIMIT).unwrap();
            let sign = match (listener(line), listens) {
                (false, true) => "Connected to 127.0.0.1",
                (false, false) => "nothing listens at 127.0.0.1",
                (true, _) => "New clock",
            };
            process.wait_for_line(sign, LIMIT).unwrap();
            running.push((line, process));
        }
        // The sender first: its goodbye is part of what is tested.
        for (line, process) in running.iter_mut().rev() {
            if !line.contains("num-buffers") && !line.contains("on-peer-lost=eos") {
                process.interrupt();
            }
            let status = process.wait(LIMIT).unwrap();
            let said = process.output();
            assert!(status.success() && !said.contains("ERROR:"), "{line}\n{said}");
        }
    }

    fn run_to_its_end(&self, line: &str) {
        let mut process = self.start(line);
        let status = process.wait(LIMIT).unwrap();
        assert!(status.success(), "{line}\n{}", process.output());
    }

    fn start(&self, line: &str) -> Process {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("exec env {line}")])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", built().display()))
            .env("GST_PLUGIN_PATH", plugin().unwrap_or_default())
            .env("GST_REGISTRY", self.folder.path().join("registry"))
            .env("VELIN_CONFIG_DIR", self.folder.path().join("velin"));
        // A first scan of foreign plugins may warn.
        command.env_remove("G_DEBUG");
        if ["velin-pipe check", "velin-pipe simulate"].iter().any(|run| line.starts_with(run)) {
            command.current_dir(root());
        }
        Process::spawn(command).unwrap()
    }

    /// The line with what this machine has.
    fn adapted(&self, line: &str) -> String {
        let port = self.port;
        let mut line = line
            .replace("autoaudiosink", "fakesink sync=true")
            .replace("velin://127.0.0.1/", &format!("velin://127.0.0.1:{port}/"))
            .replace("192.168.1.20", "127.0.0.1")
            .replace(
                " velinsrc",
                &format!(" velinsrc bind-address=127.0.0.1 port={port} audio-port=0"),
            )
            .replace("! velinsink", &format!("! velinsink port={port} audio-port=0"));
        if let Some(from) = line.find("pulsesrc") {
            let to = from + line[from..].find(" !").unwrap();
            line.replace_range(from..to, "audiotestsrc is-live=true");
        }
        line
    }
}

/// The lines of every code block of `page` with this first line.
fn blocks(page: &str, kind: &str) -> Vec<Vec<String>> {
    let text = read(page);
    let blocks: Vec<_> = text
        .split(&format!("```{kind}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().lines().map(str::to_owned).collect())
        .collect();
    assert!(page != "README.md" || !blocks.is_empty(), "{page} has no `{kind}`");
    blocks
}

/// The cells of every row of every table, without the lines under the headings.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|-"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// A property's default, as the tables write it.
fn shown(element: &gst::Element, name: &str) -> String {
    let value = element.property_value(name);
    if name == "stats" || value.get::<Option<String>>().is_ok_and(|text| text.is_none()) {
        return "–".to_owned();
    }
    let text = value.get::<String>().unwrap_or_else(|_| value.serialize().unwrap().to_string());
    format!("`{text}`")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The folder of the plugin, as cargo built it for the tests.
fn plugin() -> Result<PathBuf, String> {
    let folders = [built(), built().join("deps")];
    let found = folders.into_iter().find(|folder| folder.join("libgstvelin.so").exists());
    found.ok_or_else(|| "the plugin is not built; run cargo build first".into())
}

fn launcher() -> Result<PathBuf, String> {
    if !root().join("presets/play.toml").exists() {
        return Err("there is no presets/play.toml".into());
    }
    let program = built().join("velin-pipe");
    let there = program.exists();
    there.then_some(program).ok_or_else(|| "velin-pipe is not built; run cargo build first".into())
}

/// Where cargo puts programs.
fn built() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_compare")).with_file_name("")
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
