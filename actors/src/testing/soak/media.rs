//! The four transports of each pair, and what they are like when nothing is wrong. Pure.
//!
//! The figures are typical ones, set beforehand and by hand: they are a stage, not a claim about any product.

use bowline_messages::link::Medium;

/// How many transports each pair has.
pub const MEDIA_COUNT: usize = 4;

/// A transport's place in [`MEDIA`].
pub type MediumIndex = usize;

/// What a transport is like when nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediumModel {
    /// The transport's name.
    pub name: &'static str,
    /// What the nodes are told that it runs over.
    pub medium: Medium,
    /// One-way delay in milliseconds, in the long run.
    pub delay_ms: f64,
    /// How far the delay wanders: standard deviation of its logarithm.
    pub wander: f64,
    /// A chunk takes up to this much longer, in milliseconds.
    pub jitter_ms: f64,
    /// Share of chunks that are lost and sent again.
    pub loss: f64,
    /// The same in a bad spell.
    pub bad_loss: f64,
    /// Seconds between bad spells, on average; each lasts two on average.
    pub bad_every_s: f64,
    /// A lost chunk is sent again by the radio itself, so many milliseconds later; `None`: by the ends, after two round trips, twice as long
    /// when it is lost again.
    pub radio_resends_ms: Option<f64>,
    /// Bytes a second each way.
    pub bandwidth: u64,
    /// Media of recorded links that stand for it, as their files name them.
    pub recorded: &'static [&'static str],
}

/// The transports, in the order of all tables.
pub const MEDIA: [MediumModel; MEDIA_COUNT] = [
    MediumModel {
        name: "ble",
        medium: Medium::Bluetooth,
        delay_ms: 30.0,
        wander: 0.20,
        jitter_ms: 15.0,
        loss: 0.01,
        bad_loss: 0.10,
        bad_every_s: 60.0,
        // Connection events of 50 ms.
        radio_resends_ms: Some(50.0),
        bandwidth: 100_000,
        recorded: &["ble"],
    },
    MediumModel {
        name: "cellular",
        medium: Medium::Cellular,
        delay_ms: 22.0,
        wander: 0.25,
        jitter_ms: 10.0,
        loss: 0.003,
        bad_loss: 0.05,
        bad_every_s: 120.0,
        radio_resends_ms: None,
        bandwidth: 2_500_000,
        recorded: &["cellular", "lte", "5g", "3g", "starlink"],
    },
    MediumModel {
        name: "ethernet",
        medium: Medium::Ethernet,
        delay_ms: 2.0,
        wander: 0.05,
        jitter_ms: 0.5,
        loss: 0.000_01,
        bad_loss: 0.000_01,
        bad_every_s: f64::INFINITY,
        radio_resends_ms: None,
        bandwidth: 12_500_000,
        recorded: &[],
    },
    MediumModel {
        name: "wifi",
        medium: Medium::Wifi,
        delay_ms: 4.0,
        wander: 0.25,
        jitter_ms: 4.0,
        loss: 0.005,
        bad_loss: 0.05,
        bad_every_s: 60.0,
        radio_resends_ms: None,
        bandwidth: 5_000_000,
        recorded: &["wifi"],
    },
];

/// The place of a transport by its name.
pub fn index_of(name: &str) -> Option<MediumIndex> {
    MEDIA.iter().position(|model| model.name == name)
}
