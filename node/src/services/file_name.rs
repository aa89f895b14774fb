//! What a peer's file is called here: one plain component, whatever the peer says.

/// Bytes of a name at most, so that ` (123)` and the temporary suffix still fit into what file systems allow (255).
const NAME_BYTES_MAX: usize = 200;

/// Names that Windows gives to devices, with any extension.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// The last component of what a peer calls its file, with everything replaced that means something to a file system or a
/// terminal. Never empty, never hidden, never with a separator in it.
pub(crate) fn plain_name(asked: &str) -> String {
    let last = asked.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or_default();
    let mut name: String = last.trim().chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let dots = name.chars().take_while(|c| *c == '.').count();
    if dots > 0 {
        name.replace_range(..dots, "_");
    }
    name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
    let name = name.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    let stem = name.split('.').next().unwrap_or_default();
    if name.is_empty() {
        "unnamed".to_owned()
    } else if DEVICES.contains(&stem.to_ascii_lowercase().as_str()) {
        format!("_{name}")
    } else {
        name.to_owned()
    }
}

/// Whether a character is harmless: no control, no separator, no wildcard, no change of writing direction.
fn is_plain(c: char) -> bool {
    let directs = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    !c.is_control() && !directs && !"/\\:*?\"<>|".contains(c)
}

/// The `n`th name to try when the one before is taken: `a.txt`, `a (1).txt`, `a (2).txt`.
pub(crate) fn numbered(name: &str, n: u32) -> String {
    match (n, name.rsplit_once('.')) {
        (0, _) => name.to_owned(),
        (n, Some((stem, extension))) if !stem.is_empty() => format!("{stem} ({n}).{extension}"),
        (n, _) => format!("{name} ({n})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Component, Path};

    #[test]
    fn ordinary_names_stay() {
        for name in ["a.txt", "holiday photo.JPG", "größe.tar.gz", "日本.txt", "a-b_c"] {
            assert_eq!(plain_name(name), name);
        }
    }

    #[test]
    fn what_leads_out_of_the_folder_or_hides_is_made_plain() {
        for (asked, plain) in [
            ("../../etc/passwd", "passwd"),
            ("/etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("..", "_"),
            (".", "_"),
            ("", "unnamed"),
            ("///", "unnamed"),
            (".bashrc", "_bashrc"),
            (" .bashrc", "_bashrc"),
            ("a\0b\n\x1b[2J", "a_b__[2J"),
            ("C:evil", "C_evil"),
            ("NUL", "_NUL"),
            ("con.txt", "_con.txt"),
            ("x. . .", "x"),
            ("photo\u{202e}gpj.exe", "photo_gpj.exe"),
        ] {
            assert_eq!(plain_name(asked), plain, "{asked:?}");
        }
    }

    #[test]
    fn a_taken_name_gets_a_number_before_its_extension() {
        let names: Vec<String> = (0..3).map(|n| numbered("a.tar.gz", n)).collect();
        assert_eq!(names, ["a.tar.gz", "a.tar (1).gz", "a.tar (2).gz"]);
        assert_eq!(numbered("a", 1), "a (1)");
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_one_plain_component(asked in proptest::prelude::any::<String>()) {
            let name = plain_name(&asked);
            let components: Vec<Component<'_>> = Path::new(&name).components().collect();
            proptest::prop_assert!(matches!(components[..], [Component::Normal(_)]), "{:?}", name);
            proptest::prop_assert!(name.len() <= NAME_BYTES_MAX + 1 && !name.starts_with('.'));
            proptest::prop_assert_eq!(plain_name(&name), name);
        }
    }
}
