//! The drawing of the network: a view in, lines out. Pure.

use std::time::Duration;

use super::books::Moves;
use super::chronicle::Entry;
use super::plan::{Act, NAMES, NODES, apart};
use super::world::World;

/// Columns and rows of the drawing.
const CANVAS: (usize, usize) = (76, 13);
/// Where each node stands in it: two circles, and the bridge node between them.
const PLACES: [(usize, usize); NODES] = [(6, 1), (26, 1), (26, 11), (6, 11), (39, 6), (50, 1), (70, 6), (50, 11)];
/// Where the cut goes through.
const CUT_COLUMN: usize = 45;
/// Lines of events below it.
const EVENTS: usize = 5;
/// Rows of all of it; a terminal with fewer, or too narrow for the drawing, gets a list.
const ROWS: usize = CANVAS.1 + EVENTS + 5;
/// A braille character has two columns and four rows of dots; their bits, by column and row (Unicode, block "Braille Patterns").
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
/// The braille character without dots.
const NO_DOTS: u32 = 0x2800;

/// What is to be shown.
#[derive(Debug)]
pub struct View<'a> {
    /// Time since the beginning.
    pub elapsed: Duration,
    /// How long it is to last.
    pub length: Duration,
    /// What was done last.
    pub act: Option<Act>,
    /// All nodes.
    pub world: &'a World,
    /// All moves.
    pub moves: Moves,
    /// The latest events.
    pub events: &'a [Entry],
    /// Columns and rows of the terminal.
    pub size: (usize, usize),
    /// Whether colours may be used.
    pub colour: bool,
}

/// How a node looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Dead,
    Paused,
    Active,
}

/// One place on the canvas.
#[derive(Debug, Clone, Copy)]
struct Cell {
    sign: char,
    dots: u32,
    code: &'static str,
}

impl View<'_> {
    /// The whole screen, line by line.
    pub fn lines(&self) -> Vec<String> {
        let (elapsed, length) = (self.elapsed.as_secs_f64(), self.length.as_secs_f64());
        let act = self.act.map_or("", Act::name);
        let mut lines = vec![
            self.paint(&format!("bowline demo --mesh   {elapsed:.1} of {length:.0} s   {act}"), "1"),
            format!(
                "{} active  {} paused  {} dead  [A] critical  {} link  {} made by healing",
                self.paint("(A)", code(Look::Active)),
                self.paint("(A)", code(Look::Paused)),
                self.paint("✕A✕", code(Look::Dead)),
                self.paint("⠒⠒", LINK),
                self.paint("⠒⠒", HEALING),
            ),
        ];
        let small = self.size.0 < CANVAS.0 || self.size.1 < ROWS;
        lines.extend(if small { self.list() } else { self.drawing() });
        let Moves { asked, done, refused, .. } = self.moves;
        let waiting: u64 = self.world.nodes.iter().flatten().map(|status| status.under_way).sum();
        lines.push(self.paint(
            &format!("ledger   {asked} moves asked for   {done} answered   {refused} refused   {waiting} under way"),
            "1",
        ));
        let room = self.size.1.saturating_sub(lines.len() + 1).min(EVENTS);
        let events = &self.events[self.events.len().saturating_sub(room)..];
        lines.extend(events.iter().map(|entry| entry.line().chars().take(self.size.0).collect()));
        lines
    }

    fn look(&self, node: usize) -> Look {
        match &self.world.nodes[node] {
            None => Look::Dead,
            Some(status) if status.running => Look::Active,
            Some(_) => Look::Paused,
        }
    }

    fn label(&self, node: usize) -> String {
        let name = NAMES[node];
        match self.look(node) {
            Look::Dead => format!("✕{name}✕"),
            Look::Paused | Look::Active if self.world.is_critical(node) => format!("[{name}]"),
            Look::Paused | Look::Active => format!("({name})"),
        }
    }

    /// A line for each node: for terminals without room for more.
    fn list(&self) -> Vec<String> {
        let links = self.world.links();
        let line = |node: usize| {
            let of = links.iter().filter_map(|link| match link.ends {
                (one, other) if one == node => Some((other, link.healing)),
                (one, other) if other == node => Some((one, link.healing)),
                _ => None,
            });
            let others: Vec<String> =
                of.map(|(other, healing)| self.paint(NAMES[other], if healing { HEALING } else { LINK })).collect();
            format!("{} ─ {}", self.paint(&self.label(node), code(self.look(node))), others.join(" "))
        };
        (0..NODES).map(line).collect()
    }

    fn drawing(&self) -> Vec<String> {
        let blank = Cell { sign: ' ', dots: 0, code: "" };
        let mut canvas = vec![vec![blank; CANVAS.0]; CANVAS.1];
        if self.act == Some(Act::Split) {
            for row in &mut canvas {
                row[CUT_COLUMN] = Cell { sign: '┊', dots: 0, code: "31" };
            }
        }
        for link in self.world.links() {
            let (one, other) = link.ends;
            let code = match (self.act == Some(Act::Split) && apart(one, other), link.healing) {
                // Neither end has noticed yet.
                (true, _) => SILENT,
                (false, true) => HEALING,
                (false, false) => LINK,
            };
            stroke(&mut canvas, PLACES[one], PLACES[other], code);
        }
        for (node, place) in PLACES.iter().enumerate() {
            for (at, sign) in self.label(node).chars().enumerate() {
                canvas[place.1][place.0 + at - 1] = Cell { sign, dots: 0, code: code(self.look(node)) };
            }
        }
        canvas.iter().map(|row| self.row(row)).collect()
    }

    /// A row of the canvas, with as few changes of colour as can be.
    fn row(&self, row: &[Cell]) -> String {
        let mut text = String::new();
        for run in row.chunk_by(|one, other| one.code == other.code) {
            let signs: String = run.iter().map(|cell| cell.sign).collect();
            text.push_str(&if run[0].code.is_empty() { signs } else { self.paint(&signs, run[0].code) });
        }
        text.trim_end().to_owned()
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const LINK: &str = "37";
const HEALING: &str = "36";
const SILENT: &str = "90";

const fn code(look: Look) -> &'static str {
    match look {
        Look::Dead => "1;31",
        Look::Paused => "1;33",
        Look::Active => "1;32",
    }
}

/// A straight line between two places, in dots of braille.
fn stroke(canvas: &mut [Vec<Cell>], from: (usize, usize), to: (usize, usize), code: &'static str) {
    let middle = |(x, y): (usize, usize)| (x as f64 * 2.0 + 0.5, y as f64 * 4.0 + 1.5);
    let (from, to) = (middle(from), middle(to));
    let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().max(1.0);
    for step in 0..=steps as usize {
        let share = step as f64 / steps;
        let (x, y) = (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
        let (x, y) = (x.round() as usize, y.round() as usize);
        let Some(cell) = canvas.get_mut(y / 4).and_then(|row| row.get_mut(x / 2)) else { continue };
        cell.dots |= DOTS[x % 2][y % 4];
        cell.sign = char::from_u32(NO_DOTS + cell.dots).unwrap_or(' ');
        cell.code = code;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::demo::mesh::plan::{BRIDGE, LINKS, RIGHT};
    use crate::cli::demo::mesh::world::tests::world;

    fn draw(world: &World, act: Act, size: (usize, usize), colour: bool) -> Vec<String> {
        let events = [Entry { at: Duration::from_secs(2), who: vec![0], text: "asks Y for a link".into() }];
        let moves = Moves { asked: 12, done: 11, ..Moves::default() };
        let (elapsed, length) = (Duration::from_secs(3), Duration::from_secs(60));
        View { elapsed, length, act: Some(act), world, moves, events: &events, size, colour }.lines()
    }

    fn linked() -> World {
        let links: Vec<_> = LINKS.iter().map(|ends| (*ends, false)).chain([((3, 6), true)]).collect();
        world(&links)
    }

    #[test]
    fn everybody_is_where_they_belong_and_lines_lead_there() {
        let lines = draw(&linked(), Act::Traffic, (80, 24), false);
        let text = lines.join("\n");
        assert!(lines.len() < 24, "{text}");
        assert!(NAMES.iter().all(|name| text.contains(&format!("({name})"))), "{text}");
        for part in ["3.0 of 60 s", "12 moves asked for   11 answered", "2.0 s  A: asks Y for a link"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let between: Vec<char> = lines[2 + 1].chars().skip(8).take(16).collect();
        assert!(
            between.iter().all(|sign| ('\u{2801}'..='\u{28ff}').contains(sign)),
            "from A to B: {between:?}\n{text}"
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 80) && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn the_dead_the_paused_and_the_cut_are_seen() {
        let mut world = linked();
        world.nodes[BRIDGE] = None;
        for node in RIGHT {
            world.nodes[node].as_mut().unwrap().running = false;
        }
        let text = draw(&world, Act::Split, (80, 24), true).join("\n");
        for part in ["\x1b[1;31m✕M✕\x1b[0m", "\x1b[1;33m(X)\x1b[0m", "\x1b[1;32m(A)\x1b[0m", "\x1b[31m┊"] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        let before = draw(&linked(), Act::Traffic, (80, 24), true).join("\n");
        assert!(!before.contains('┊') && before.contains("\x1b[36m"), "a link made by healing has its colour");
        assert!(
            !draw(&linked(), Act::Split, (80, 24), true)[2..15].join("").contains("\x1b[36m"),
            "nothing passes there"
        );
    }

    #[test]
    fn who_the_network_hangs_on_is_marked() {
        let mut world = linked();
        let bridge = world.ids[BRIDGE];
        world.nodes.iter_mut().flatten().for_each(|status| status.critical.push(bridge));
        assert!(draw(&world, Act::Traffic, (80, 24), false)[2..].join("\n").contains("[M]"));
    }

    #[test]
    fn a_small_terminal_gets_a_list() {
        let lines = draw(&linked(), Act::Traffic, (40, 14), false);
        assert!(lines.len() < 14, "{lines:?}");
        assert!(lines.contains(&"(D) ─ A C Y".to_owned()), "{lines:?}");
    }
}
