//! Numbers: rounds in turns, what they come to, and the file that keeps them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// All that was measured, in a JSON file that is written after each row.
#[derive(Serialize, Deserialize, Default)]
pub struct Results {
    #[serde(skip)]
    path: PathBuf,
    /// Whether rounds come beside those that are there of the same row, not in their place.
    #[serde(skip)]
    pub add_rounds: bool,
    /// What it was measured on: machine, versions, date.
    #[serde(default)]
    pub machine: BTreeMap<String, String>,
    #[serde(default)]
    pub rows: Vec<Row>,
    #[serde(default)]
    pub curves: Vec<Curve>,
    /// What a request makes the daemon do: system calls and programs by request.
    #[serde(default)]
    pub traces: Vec<Trace>,
}

/// A work beside the other way to do it.
#[derive(Serialize, Deserialize, Clone)]
pub struct Row {
    pub name: String,
    /// What ours is beside.
    pub beside: String,
    pub unit: Unit,
    pub ours: Vec<f64>,
    /// Empty when there is nothing beside it.
    pub theirs: Vec<f64>,
    /// Bound of the ratio of medians, or of our median when there is nothing beside it.
    pub goal: Option<f64>,
    /// When it was measured, or each part of it: a run may leave rows of an earlier one as they are.
    #[serde(default)]
    pub date: String,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    PerSecond,
    Bytes,
}

/// How cost grows with the number of objects.
#[derive(Serialize, Deserialize, Clone)]
pub struct Curve {
    /// What is drawn in one picture.
    pub picture: String,
    pub name: String,
    /// Number of objects, and the median in seconds.
    pub points: Vec<(f64, f64)>,
}

#[derive(Serialize, Deserialize, Clone)]
pub struct Trace {
    pub request: String,
    /// Programs that were started.
    pub programs: u64,
    /// System calls of interest.
    pub calls: BTreeMap<String, u64>,
}

impl Unit {
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Seconds if value < 0.00095 => format!("{:.0} µs", value * 1e6),
            Unit::Seconds if value < 0.0095 => format!("{:.2} ms", value * 1e3),
            Unit::Seconds if value < 0.95 => format!("{:.0} ms", value * 1e3),
            Unit::Seconds => format!("{value:.2} s"),
            Unit::PerSecond if value >= 1000.0 => format!("{value:.0}/s"),
            Unit::PerSecond => format!("{value:.1}/s"),
            Unit::Bytes => format!("{:.1} MB", value / 1e6),
        }
    }
}

impl Row {
    /// Median of ours to that of theirs.
    pub fn ratio(&self) -> Option<f64> {
        (!self.theirs.is_empty()).then(|| median(&self.ours) / median(&self.theirs))
    }

    /// Wake-ups count per second, too, and there fewer are better.
    pub fn more_is_better(&self) -> bool {
        self.unit == Unit::PerSecond && !self.theirs.is_empty()
    }

    pub fn reached(&self) -> Option<bool> {
        let measured = self.ratio().unwrap_or_else(|| median(&self.ours));
        self.goal.map(|goal| if self.more_is_better() { measured >= goal } else { measured <= goal })
    }
}

impl Results {
    /// What the file has, or nothing when it is not there.
    pub fn open(path: PathBuf) -> Self {
        let mut results: Results = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Results::default(),
            Err(error) => panic!("{}: {error}", path.display()),
        };
        results.path = path;
        results
    }

    fn save(&self) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, serde_json::to_string_pretty(self).unwrap()).unwrap();
        std::fs::rename(&new, &self.path).unwrap();
    }

    /// Rounds of a row that new ones are added to.
    pub fn rounds(&self, name: &str) -> usize {
        let known = self.rows.iter().filter(|known| self.add_rounds && known.name == name);
        known.map(|known| known.ours.len()).min().unwrap_or(0)
    }

    /// In the place of one with the same name, or in addition to its rounds.
    pub fn add(&mut self, mut row: Row) {
        row.date = self.machine.get("date").cloned().unwrap_or_default();
        let known = self.rows.iter().position(|known| known.name == row.name && known.beside == row.beside);
        if let Some(known) = known.filter(|_| self.add_rounds).map(|known| self.rows[known].clone()) {
            row.ours.splice(0..0, known.ours);
            row.theirs.splice(0..0, known.theirs);
            let is_said = known.date.ends_with(&row.date);
            row.date = if is_said { known.date } else { format!("{}, {}", known.date, row.date) };
        }
        eprintln!("{}", crate::report::line(&row));
        match known {
            Some(known) => self.rows[known] = row,
            None => self.rows.push(row),
        }
        self.save();
    }

    /// Ours beside theirs, in seconds. Without a goal, when it only explains another row.
    pub fn compare(
        &mut self,
        name: &str,
        beside: &str,
        goal: impl Into<Option<f64>>,
        (ours, theirs): (Vec<f64>, Vec<f64>),
    ) {
        let (name, beside) = (name.to_owned(), beside.to_owned());
        self.add(Row { name, beside, unit: Unit::Seconds, ours, theirs, goal: goal.into(), date: String::new() });
    }

    pub fn add_curve(&mut self, picture: &str, name: &str, points: Vec<(f64, f64)>) {
        eprintln!("{picture}, {name}: {points:?}");
        self.curves.retain(|known| (known.picture.as_str(), known.name.as_str()) != (picture, name));
        self.curves.push(Curve { picture: picture.to_owned(), name: name.to_owned(), points });
        self.save();
    }

    pub fn add_trace(&mut self, trace: Trace) {
        self.traces.retain(|known| known.request != trace.request);
        self.traces.push(trace);
        self.save();
    }

    pub fn describe_machine(&mut self) {
        let first_line = |program: &str, args: &[&str]| {
            let text = crate::appliance::output(program, args);
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
        let processors = std::thread::available_parallelism().unwrap();
        for (name, text) in [
            ("date", first_line("date", &["-I"])),
            ("processors of the appliance", format!("{processors} × {}", cpu.unwrap_or("unknown"))),
            ("virtualisation", first_line("systemd-detect-virt", &[])),
            ("kernel", first_line("uname", &["-r"])),
            ("OpenZFS", first_line("zfs", &["version"])),
            ("vSnap", first_line("vsnapd", &["--version"])),
            ("targetcli", first_line("dpkg-query", &["-W", "-f", "${Version}", "targetcli-fb"])),
            ("syncoid", first_line("dpkg-query", &["-W", "-f", "${Version}", "sanoid"])),
            ("nginx", first_line("dpkg-query", &["-W", "-f", "${Version}", "nginx"])),
            ("OpenSSH", first_line("dpkg-query", &["-W", "-f", "${Version}", "openssh-client"])),
        ] {
            self.machine.insert(name.to_owned(), text);
        }
        self.save();
    }
}

/// Ours and theirs in turns; who begins changes with each round. Both tell seconds.
pub fn in_turns(
    rounds: usize,
    mut ours: impl FnMut(usize) -> f64,
    mut theirs: impl FnMut(usize) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let mut seconds = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if round % 2 == 0 {
            seconds.0.push(ours(round));
            seconds.1.push(theirs(round));
        } else {
            seconds.1.push(theirs(round));
            seconds.0.push(ours(round));
        }
    }
    seconds
}

pub fn time<T>(work: impl FnOnce() -> T) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64()
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Waits for what is about to be, looking often.
pub fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
