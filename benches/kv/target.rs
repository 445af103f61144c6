//! The two sides, and how each is asked over HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This project.
    Pkgctl,
    /// etcd 3.4.
    Etcd,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Writes a key.
    Put,
    /// Reads a key, linearizable.
    Get,
    /// Reads a key as the node that is asked has it.
    GetStale,
}

impl Op {
    /// For tables.
    pub fn word(self) -> &'static str {
        match self {
            Op::Put => "write",
            Op::Get => "read (linearizable)",
            Op::GetStale => "read (stale)",
        }
    }
}

/// An HTTP request.
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    pub body: Vec<u8>,
}

impl Target {
    /// Both.
    pub const BOTH: [Target; 2] = [Target::Pkgctl, Target::Etcd];

    /// For tables.
    pub fn word(self) -> &'static str {
        match self {
            Target::Pkgctl => "pkgctl",
            Target::Etcd => "etcd",
        }
    }

    /// Where its HTTP is served.
    pub fn port(self) -> u16 {
        match self {
            Target::Pkgctl => 8420,
            Target::Etcd => 2379,
        }
    }

    /// The request for one operation.
    pub fn ask(self, op: Op, key: &str, value: &[u8]) -> Ask {
        match (self, op) {
            (Target::Pkgctl, Op::Put) => Ask { method: "PUT", path: format!("/v1/kv/{key}"), body: value.to_vec() },
            (Target::Pkgctl, Op::Get) => get(format!("/v1/kv/{key}?level=consistent")),
            (Target::Pkgctl, Op::GetStale) => get(format!("/v1/kv/{key}?level=stale")),
            (Target::Etcd, Op::Put) => {
                let body = json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) });
                post("/v3/kv/put", &body)
            }
            (Target::Etcd, Op::Get) => post("/v3/kv/range", &json!({ "key": STANDARD.encode(key) })),
            (Target::Etcd, Op::GetStale) => {
                post("/v3/kv/range", &json!({ "key": STANDARD.encode(key), "serializable": true }))
            }
        }
    }
}

fn get(path: String) -> Ask {
    Ask { method: "GET", path, body: Vec::new() }
}

fn post(path: &str, body: &serde_json::Value) -> Ask {
    Ask { method: "POST", path: path.to_owned(), body: body.to_string().into_bytes() }
}
