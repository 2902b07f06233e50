//! Reads `include/batpak.h`. It is generated, so it has one shape: a comment, then a declaration.

/// A function.
pub struct Function {
    pub name: String,
    pub result: String,
    pub parameters: Vec<Variable>,
    /// Its comment.
    pub words: Vec<String>,
}

/// A parameter or a member: `const char *` and `entity`.
#[derive(Clone)]
pub struct Variable {
    pub of: String,
    pub name: String,
    /// Of an array: how many.
    pub count: Option<usize>,
}

/// A struct that is defined.
pub struct Struct {
    pub name: String,
    pub members: Vec<Variable>,
}

pub struct Header {
    pub functions: Vec<Function>,
    pub structs: Vec<Struct>,
    /// Types of functions.
    pub callbacks: Vec<String>,
    /// Names of the statuses.
    pub statuses: Vec<String>,
}

pub fn read(text: &str) -> Header {
    let mut header = Header { functions: Vec::new(), structs: Vec::new(), callbacks: Vec::new(), statuses: Vec::new() };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("#define"), Some(name), Some(value)) = (words.next(), words.next(), words.next())
            && (name.starts_with("BATPAK_E_")
                || ["BATPAK_OK", "BATPAK_EMPTY", "BATPAK_TIMEOUT", "BATPAK_INTERRUPTED"].contains(&name))
            && value.parse::<i32>().is_ok()
        {
            header.statuses.push(name.to_owned());
        }
    }
    let code: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let mut rest = code.as_str();
    while let Some((comment, declaration, after)) = next_declaration(rest) {
        rest = after;
        header.add(&comment, &declaration);
    }
    header
}

/// The last comment before a declaration, the declaration without comments and without its semicolon, and what follows.
fn next_declaration(mut rest: &str) -> Option<(String, String, &str)> {
    let (mut comment, mut declaration, mut depth) = (String::new(), String::new(), 0);
    loop {
        if let Some(after) = rest.strip_prefix("/*") {
            let end = after.find("*/").expect("the end of a comment");
            if depth == 0 {
                comment = after[..end].to_owned();
            }
            rest = &after[end + 2..];
            continue;
        }
        let character = rest.chars().next()?;
        rest = &rest[character.len_utf8()..];
        match character {
            '{' if declaration.trim() == "extern \"C\"" => declaration.clear(),
            '}' if depth == 0 => declaration.clear(),
            ';' if depth == 0 => return Some((comment, declaration.trim().to_owned(), rest)),
            _ => {
                depth += i32::from(character == '{') - i32::from(character == '}');
                declaration.push(character);
            }
        }
    }
}

impl Header {
    fn add(&mut self, comment: &str, declaration: &str) {
        if let Some(typedef) = declaration.strip_prefix("typedef ") {
            if let Some((members, name)) =
                typedef.strip_prefix("struct ").and_then(|text| text.split_once('{')?.1.rsplit_once('}'))
            {
                let members =
                    members.split(';').map(str::trim).filter(|member| !member.is_empty() && !member.contains("(*"));
                self.structs.push(Struct { name: name.trim().to_owned(), members: members.map(variable).collect() });
            } else if let Some((_, name)) = typedef.split_once("(*") {
                self.callbacks.push(name.split(')').next().expect("a name").to_owned());
            }
            return;
        }
        let (head, parameters) = declaration.split_once('(').unwrap_or_else(|| panic!("{declaration} is no function"));
        let Variable { of: result, name, .. } = variable(head);
        let parameters = parameters.trim_end_matches(')');
        let parameters = parameters.split(',').map(str::trim).filter(|text| *text != "void").map(variable).collect();
        let words = comment.replace('*', " ").split_whitespace().map(str::to_owned).collect();
        self.functions.push(Function { name, result, parameters, words });
    }

    pub fn structure(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|found| found.name == name)
    }

    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|found| found.name == name)
    }
}

/// `const char *entity` or `uint64_t reserved[4]`.
fn variable(text: &str) -> Variable {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (text, count) = match text.split_once('[') {
        Some((before, count)) => (before.to_owned(), count.trim_end_matches(']').parse().ok()),
        None => (text, None),
    };
    let start =
        text.rfind(|character: char| !character.is_alphanumeric() && character != '_').map_or(0, |index| index + 1);
    Variable { of: text[..start].trim().to_owned(), name: text[start..].to_owned(), count }
}
