//! What include/batpak.h declares: functions with their parameters, and structs with their members. The header is generated, so
//! it has one form.

/// A parameter or a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// With one space between words, and none before `*`.
    pub kind: String,
    pub name: String,
    pub is_array: bool,
}

#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub returns: String,
    pub parameters: Vec<Field>,
}

#[derive(Debug)]
pub struct Struct {
    pub name: String,
    pub members: Vec<Field>,
}

/// The declarations, without comments and preprocessor lines, each on its own.
fn statements(header: &str) -> Vec<String> {
    let mut text = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        text.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = lines.join(" ").replace("extern \"C\" {", "");
    let (mut all, mut depth, mut one) = (Vec::new(), 0, String::new());
    for character in joined.chars() {
        depth += match character {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if character == ';' && depth == 0 {
            all.push(one.split_whitespace().collect::<Vec<_>>().join(" "));
            one.clear();
        } else {
            one.push(character);
        }
    }
    all
}

fn field(text: &str) -> Field {
    let text = text.trim();
    let (text, is_array) = match text.split_once('[') {
        Some((before, _)) => (before, true),
        None => (text, false),
    };
    let at = text.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).expect("a type and a name");
    Field { kind: text[..=at].trim().replace(" *", "*"), name: text[at + 1..].to_owned(), is_array }
}

pub fn functions(header: &str) -> Vec<Function> {
    let parse = |statement: String| {
        let (head, tail) = statement.split_once('(')?;
        let head = field(head);
        if statement.starts_with("typedef") || !head.name.starts_with("batpak_") || !tail.ends_with(')') {
            return None;
        }
        let inside = &tail[..tail.len() - 1];
        let parameters = if inside == "void" { Vec::new() } else { inside.split(',').map(field).collect() };
        Some(Function { name: head.name, returns: head.kind, parameters })
    };
    statements(header).into_iter().filter_map(parse).collect()
}

pub fn structs(header: &str) -> Vec<Struct> {
    let parse = |statement: String| {
        let inside = statement.strip_prefix("typedef struct ")?.split_once('{')?.1;
        let (members, name) = inside.rsplit_once('}')?;
        let members = members.split(';').map(str::trim).filter(|text| !text.is_empty() && !text.contains('('));
        Some(Struct { name: name.trim().to_owned(), members: members.map(field).collect() })
    };
    statements(header).into_iter().filter_map(parse).collect()
}
