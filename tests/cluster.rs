//! Several nodes on one site: real processes with real sockets and certificates.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod site;

use std::process::{Command, Output};
use std::time::Instant;

use ekya::cluster::Survey;
use ekya::record::RunRecord;

use site::{Site, answered, one_leader};

/// A node with streams of these names, whose students are the built-in ones.
fn config(streams: &[&str]) -> String {
    config_with(streams, "weights = \"scene\"")
}

/// The same with other classifiers.
fn config_with(streams: &[&str], classifier: &str) -> String {
    let head = "[run]\nwindow_seconds = 4.0\n\n[[device]]\nname = \"cpu0\"\nkind = \"cpu\"\n\
                cores = 1\nisolation = \"inline\"\n\n[learning]\nsamples = 12\nburst = 4\n";
    let stream = |(index, name): (usize, &&str)| {
        format!(
            "\n[[stream]]\nname = \"{name}\"\nteacher = \"labels\"\n\
             source = {{ scene = {{ fps = 5.0, seed = {} }} }}\n\
             student = {{ classifier = {{ {classifier} }} }}\n",
            20 + index
        )
    };
    let streams: String = streams.iter().enumerate().map(stream).collect();
    head.to_owned() + &streams
}

fn record(site: &Site, node: usize) -> RunRecord {
    let json = std::fs::read(site.folder_of(node).join("out/run.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
}

#[test]
fn three_nodes_follow_one_that_plans_for_all_and_another_when_it_dies() {
    let mut site = Site::new(3);
    site.start(0, &config(&["gate", "yard"]));
    site.start(1, &config(&["road"]));
    site.start(2, &config(&["door"]));
    let all = ["edge-1", "edge-2", "edge-3"];
    let (term, leader) = site.wait_for(2, "one leader", |survey| one_leader(survey, &all));
    let planned = |survey: &Survey, names: &[&str]| {
        let granted = |name: &&str| {
            let jobs = answered(survey, name).map(|node| &node.devices[0].jobs);
            jobs.is_some_and(|jobs| {
                let sum: f64 = jobs.iter().map(|job| job.granted).sum();
                sum > 0.0 && sum < 1.0 + 1e-6
            })
        };
        names.iter().all(granted).then_some(())
    };
    site.wait_for(2, "shares everywhere", |survey| planned(survey, &all));
    // A node that nobody expects to die.
    let dies = all.iter().position(|name| *name == leader).unwrap();
    site.kill(dies);
    let left: Vec<_> = all.iter().copied().filter(|name| *name != leader).collect();
    let asked = (dies + 1) % 3;
    let next = site.wait_for(asked, "another leader", |survey| {
        one_leader(survey, &left).filter(|(next, _)| *next > term)
    });
    site.wait_for(asked, "shares under it", |survey| planned(survey, &left));
    site.start_again(dies);
    let last = site.wait_for(asked, "three again", |survey| one_leader(survey, &all));
    assert_eq!(last, next, "whoever leads goes on leading");
    for node in 0..3 {
        site.end(node);
    }
    for node in 0..3 {
        for stream in record(&site, node).streams {
            let frames = stream.frames;
            assert!(frames.answered > 0, "{stream:?}");
            assert_eq!(
                frames.arrived,
                frames.answered + frames.skipped + frames.dropped
            );
        }
    }
}

/// Who runs a stream, when exactly one node does.
fn runner(survey: &Survey, stream: &str) -> Option<String> {
    let runs = |name: &&String| {
        let node = answered(survey, name);
        node.is_some_and(|node| node.overview.runs.iter().any(|known| known == stream))
    };
    let runners: Vec<_> = survey.nodes.keys().filter(runs).collect();
    match runners[..] {
        [runner] => Some(runner.clone()),
        _ => None,
    }
}

fn runs_on(site: &Site, from: usize, stream: &str, node: &str) {
    let what = format!("{stream} on {node} alone");
    let begin = Instant::now();
    site.wait_for(from, &what, |survey| {
        runner(survey, stream).filter(|runner| runner == node)
    });
    eprintln!("{what} after {:.1} s", begin.elapsed().as_secs_f64());
}

fn ekya(site: &Site, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_ekya"))
        .args(arguments)
        .args(["--node", &site.nodes[0].address, "--certs"])
        .arg(site.certs())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

#[test]
fn a_stream_survives_its_node_and_goes_back_when_that_is_there_again() {
    let mut site = Site::new(3);
    site.start(0, &config(&["gate"]));
    site.start(1, &config(&["road"]));
    site.start(2, &config(&["door"]));
    for (stream, node) in [("gate", "edge-1"), ("road", "edge-2"), ("door", "edge-3")] {
        runs_on(&site, 0, stream, node);
    }
    // Another node has a copy of it.
    let has_copy = |site: &Site| {
        let there = |node| {
            site.folder_of(node)
                .join("state/copies/streams/door/copy.json")
                .exists()
        };
        (0..2).find(|&node| there(node))
    };
    let begin = Instant::now();
    while has_copy(&site).is_none() {
        assert!(begin.elapsed() < site::PATIENCE, "no copy: {}", site.log(2));
        std::thread::yield_now();
    }
    let keeper = site.nodes[has_copy(&site).unwrap()].name.clone();
    site.kill(2);
    runs_on(&site, 0, "door", &keeper);
    site.start_again(2);
    runs_on(&site, 0, "door", "edge-3");
    for node in 0..3 {
        site.end(node);
    }
    let streams = record(&site, 2).streams;
    assert!(streams[0].frames.answered > 0, "{streams:?}");
}

#[test]
fn streams_are_added_moved_and_ended_and_a_node_is_drained() {
    let mut site = Site::new(3);
    site.start(0, &config(&["gate"]));
    site.start(1, &config(&["road"]));
    site.start(2, &config(&[]));
    let all = ["edge-1", "edge-2", "edge-3"];
    site.wait_for(0, "one leader", |survey| one_leader(survey, &all));
    ekya(&site, &["stream", "move", "gate", "--to", "edge-2"]);
    runs_on(&site, 0, "gate", "edge-2");
    let added = site.path().join("new.toml");
    std::fs::write(&added, config(&["yard"])).unwrap();
    let output = ekya(
        &site,
        &["stream", "add", "--config", added.to_str().unwrap()],
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("yard runs on edge-"), "{said}");
    ekya(&site, &["drain", "edge-2"]);
    site.wait_for(0, "streams on the others", |survey| {
        let elsewhere = |stream| runner(survey, stream).filter(|runner| runner != "edge-2");
        elsewhere("gate").and(elsewhere("road"))
    });
    site.end(1);
    site.start_again(1);
    runs_on(&site, 0, "gate", "edge-2");
    runs_on(&site, 0, "road", "edge-2");
    ekya(&site, &["stream", "remove", "yard"]);
    site.wait_for(0, "yard nowhere", |survey| {
        let nodes = survey.nodes.keys().map(|name| answered(survey, name));
        let here = nodes.collect::<Option<Vec<_>>>()?;
        let anywhere = here
            .iter()
            .any(|node| node.overview.runs.iter().any(|name| name == "yard"));
        (!anywhere).then_some(())
    });
    let status = String::from_utf8(ekya(&site, &["status"]).stdout).unwrap();
    assert!(status.starts_with("leader: edge-"), "{status}");
    assert!(status.contains("stream gate on cpu0"), "{status}");
    for node in 0..3 {
        site.end(node);
    }
}

/// Every student of the one node begins with random weights, so that each retraining has something to
/// gain, and there are more of them than its device has time for.
#[test]
fn an_idle_node_retrains_the_students_of_a_loaded_one() {
    let mut site = Site::new(2);
    let streams = ["a", "b", "c", "d"];
    site.start(0, &config_with(&streams, ""));
    site.start(1, &config(&[]));
    let lent = site.folder_of(1).join("state/lent.jsonl");
    let begin = Instant::now();
    let came_back = |record: &RunRecord| {
        let mut streams = record.windows.iter().flat_map(|window| &window.streams);
        streams.any(|stream| {
            let texts: Vec<_> = stream.decisions.iter().map(|one| &*one.text).collect();
            let went = texts
                .iter()
                .position(|text| *text == "it is trained on cpu0 of edge-2");
            let compared =
                |text: &&&str| text.starts_with("promoted") || text.starts_with("dropped");
            went.is_some_and(|went| texts[went..].iter().find(compared).is_some())
        })
    };
    let lines = |least: usize| {
        std::fs::read_to_string(&lent).is_ok_and(|text| text.lines().count() >= least)
    };
    while !lines(3) {
        let (one, two) = (site.log(0), site.log(1));
        assert!(
            begin.elapsed() < site::PATIENCE,
            "nothing is lent:\n{one}\n---\n{two}"
        );
        std::thread::yield_now();
    }
    site.wait_for(0, "what edge-2 was asked for", |_| lines(4).then_some(()));
    for node in 0..2 {
        site.end(node);
    }
    let record = record(&site, 0);
    assert!(came_back(&record), "{:#?}", record.windows);
    let text = std::fs::read_to_string(&lent).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["node"], "edge-1");
    assert!(
        line["pictures"].as_u64() > Some(0) && line["erased"].as_u64() >= line["from"].as_u64()
    );
}

/// A node with certificates of another site dials one of this: it is told why it is not let in and goes on
/// alone, and this site goes on without it.
#[test]
fn a_node_of_another_site_is_refused_and_harms_nobody() {
    let (mut site, mut other) = (Site::new(1), Site::new(1));
    site.start(0, &config(&["gate"]));
    runs_on(&site, 0, "gate", "edge-1");
    other.strangers = vec![site.nodes[0].address.clone()];
    other.start(0, &config(&["road"]));
    runs_on(&other, 0, "road", "edge-1");
    let begin = Instant::now();
    while !other.log(0).contains("no connection yet") {
        assert!(begin.elapsed() < site::PATIENCE, "{}", other.log(0));
        std::thread::yield_now();
    }
    let log = other.log(0);
    let line = log.lines().find(|line| line.contains("no connection yet"));
    let line = line.unwrap();
    assert!(line.contains(&site.nodes[0].address), "{line}");
    assert!(
        line.contains("certificate") || line.contains("site"),
        "{line}"
    );
    let survey = site.survey(0).unwrap();
    assert_eq!(survey.nodes.len(), 1, "{survey:?}");
    site.end(0);
    other.end(0);
    assert!(record(&site, 0).streams[0].frames.answered > 0);
}
