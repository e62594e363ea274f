//! The gateway's side of a personal broker: its control connection, and the sessions that it opens.

use super::Client;
use pcm_wire::{Answer, Grant, Grants, Preamble, Reply, Request, Rule, Verb, View};
use std::collections::BTreeMap;
use std::path::Path;

pub struct Control {
    pub client: Client,
    pub next: u64,
}

impl Control {
    pub fn open(socket: &Path) -> Control {
        let mut client = Client::unix(socket);
        client.raw(&Preamble::Control {}.to_bytes());
        Control { client, next: 1 }
    }

    pub fn ask(&mut self, verb: Verb) -> Answer {
        let id = self.next;
        self.next += 1;
        let mut line = serde_json::to_vec(&Request { id, verb }).expect("JSON");
        line.push(b'\n');
        self.client.raw(&line);
        let reply: Reply = serde_json::from_str(&self.client.line().expect("an answer")).expect("a reply");
        assert_eq!(reply.id, id);
        reply.answer
    }

    pub fn grant(&mut self, rev: i64, grants: Vec<Grant>) {
        assert_eq!(self.ask(Verb::Grants(Grants { rev, grants })), Answer::Ok {});
    }
}

pub fn device() -> Grant {
    Grant::Device { sid: "dev".into(), label: "L".into() }
}

pub fn app(read: &[&str], command: &[&str]) -> Grant {
    let list = |channels: &[&str]| channels.iter().map(|channel| (*channel).to_owned()).collect();
    let rule = Rule {
        label: "L".into(),
        read: list(read),
        command: list(command),
        view: View::Raw,
        views: BTreeMap::new(),
    };
    Grant::App { sid: "app".into(), rules: vec![rule], key: None }
}

pub fn session(socket: &Path, sid: &str) -> Client {
    let mut client = Client::unix(socket);
    client.raw(&Preamble::Session { sid: sid.into(), client: sid.into() }.to_bytes());
    client
}
