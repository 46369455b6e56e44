//! Tests of `command.rs`.

use super::*;

fn tool(name: &str) -> Tool {
    Tool::find(name, "coreutils").unwrap()
}

fn other(_: &str) -> Kind {
    Kind::Other
}

#[test]
fn a_missing_tool_names_its_package() {
    let error = Tool::find("no-such-tool", "some-package").unwrap_err();
    assert_eq!(error.kind, Kind::Missing);
    assert!(error.to_string().contains("some-package"), "{error}");
}

#[test]
fn output_environment_and_standard_input() {
    assert_eq!(tool("env").command([]).output(other).unwrap(), {
        format!("LC_ALL=C.UTF-8\nPATH={}\n", FOLDERS.join(":"))
    });
    let big = vec![b'x'; 3 << 20];
    assert_eq!(tool("cat").command([]).stdin(big.clone()).run().unwrap().stdout, big);
    // Without input it reads nothing instead of waiting for the terminal.
    assert_eq!(tool("cat").command([]).output(other).unwrap(), "");
    // A tool that does not read its input is no error.
    assert!(tool("true").command([]).stdin(big).run().unwrap().succeeded());
}

#[test]
fn failures_carry_argv_and_what_was_said() {
    let error = tool("ls").command(["/no such file"]).stdin(b"secret".to_vec()).output(other).unwrap_err();
    assert_eq!(error.action, "ls '/no such file'");
    assert!(error.detail.contains("No such file or directory"), "{error}");
    assert!(!error.to_string().contains("secret"));
    let error = tool("false").command([]).output(other).unwrap_err();
    assert_eq!(error.detail, "it exited with status 1 and said nothing");
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_all_its_children() {
    let began = Instant::now();
    let limit = Limit::Time(Duration::from_millis(300));
    // `timeout` starts `sleep` as a child of its own, which holds the pipes open as well.
    let command = tool("timeout").command(["--foreground", "98", "sleep", "97.25"]).limit(limit);
    let error = command.output(other).unwrap_err();
    assert_eq!(error.kind, Kind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let left = tool("ps").command(["-eo", "args"]).output(other).unwrap();
    assert!(!left.lines().any(|line| line == "sleep 97.25"), "{left}");
}

#[test]
fn a_daemon_that_keeps_the_pipes_does_not_hold_up_the_caller() {
    let began = Instant::now();
    let output = tool("setsid").command(["--fork", "sleep", "8"]).run().unwrap();
    assert!(output.succeeded());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn disk_statistics_are_summed() {
    let text = "   8       0 sda 10 0 100 5 20 0 300 9 0 8 14 0 0 0 0 2 0\n 254 0 vda 1 0 7 0 1 0 8 0 0 0 0\n";
    assert_eq!(sectors_moved(text), 415);
}

#[test]
fn lines_come_one_by_one_and_the_reader_may_stop() {
    let lines = |command: Command, most: usize| {
        let mut lines = Vec::new();
        let result = command.lines(other, &mut |line| {
            lines.push(line.to_owned());
            Ok(lines.len() < most)
        });
        (result, lines)
    };
    let (result, found) = lines(tool("printf").command(["a\\n\\nb c\\nd"]), 9);
    result.unwrap();
    assert_eq!(found, ["a", "", "b c", "d"]);
    let (result, found) = lines(tool("seq").command(["200000"]), usize::MAX);
    result.unwrap();
    assert_eq!((found.len(), found[199_999].as_str()), (200_000, "200000"));
    // It never ends by itself.
    let (result, found) = lines(tool("yes").command(["98.25"]), 3);
    result.unwrap();
    assert_eq!(found.len(), 3);
    let left = tool("ps").command(["-eo", "args"]).output(other).unwrap();
    assert!(!left.lines().any(|line| line.ends_with("yes 98.25")), "{left}");
}

#[test]
fn lines_report_failures() {
    let mut none = |_: &str| Ok(true);
    let error = tool("ls").command(["/no such file"]).lines(other, &mut none).unwrap_err();
    assert!(error.detail.contains("No such file or directory"), "{error}");
    let error = tool("printf").command(["\\303\\n"]).lines(other, &mut none).unwrap_err();
    assert!(error.detail.contains("UTF-8"), "{error}");
    let mut refusing = |_: &str| Err(Error::new(Kind::Denied, "reading", "no"));
    assert_eq!(tool("yes").command([]).lines(other, &mut refusing).unwrap_err().kind, Kind::Denied);
    let stalled = tool("sleep").command(["60"]).limit(Limit::Time(Duration::from_millis(200)));
    assert_eq!(stalled.lines(other, &mut none).unwrap_err().kind, Kind::TimedOut);
}

#[test]
fn there_may_be_more_lines_than_output_is_kept() {
    // 64 MiB and more are more than what is kept of output otherwise.
    let mut bytes = 0_u64;
    let mut count = |line: &str| {
        bytes += line.len() as u64;
        Ok(bytes < 80 << 20)
    };
    tool("yes").command(["x".repeat(100_000).as_str()]).lines(other, &mut count).unwrap();
    assert!(bytes >= 80 << 20);
}
