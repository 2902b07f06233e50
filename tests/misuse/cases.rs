//! What is passed for each parameter: first what is right, then what is wrong or extreme. A parameter that is not known here is an
//! error, so that a new function joins by force.

use super::header::{Field, Function, Struct};

/// A way to pass a parameter: what to do before, the expression, and a name for messages.
#[derive(Debug, Clone)]
pub struct Value {
    pub prepare: String,
    pub expression: String,
    pub label: String,
}

fn value(expression: &str) -> Value {
    Value { prepare: String::new(), expression: expression.to_owned(), label: expression.to_owned() }
}

fn values(expressions: &[&str]) -> Vec<Value> {
    expressions.iter().map(|expression| value(expression)).collect()
}

/// Calls after which the objects are made anew.
pub fn ends_objects(function: &str) -> bool {
    ["_close", "_free", "_stop", "_and_join", "_commit", "_cancel", "_interrupt"]
        .iter()
        .any(|end| function.ends_with(end))
}

/// Numbers that are extreme for the type.
fn extremes(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "uint32_t" => &["0", "1", "255", "UINT32_C(0x80000000)", "UINT32_MAX"],
        "int32_t" => &["0", "INT32_MIN", "INT32_MAX"],
        "uint64_t" => &["0", "1", "UINT64_C(1) << 40", "UINT64_MAX - 1", "UINT64_MAX"],
        "int64_t" => &["0", "INT64_MIN", "INT64_MAX"],
        "size_t" => &["0", "1", "SIZE_MAX / 2 + 1", "SIZE_MAX"],
        "batpak_status_t" => &["0", "1", "-1", "-9999", "INT32_MIN", "INT32_MAX"],
        _ => return None,
    })
}

/// The struct with its members wrong, one at a time.
fn structs_with(of: &Struct, base: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut push = |label: String, change: String| {
        let prepare = format!("{} *changed = copy_of({base}, sizeof({})); {change}", of.name, of.name);
        all.push(Value { prepare, expression: "changed".to_owned(), label });
    };
    for size in ["0", "1", "7", "sizeof *changed - 8", "sizeof *changed + 8", "4096"] {
        push(format!("struct_size = {size}"), format!("changed->struct_size = (uint32_t)({size});"));
    }
    let tail = "changed->struct_size = sizeof *changed + 8; memset(changed + 1, 0xff, 8);";
    push("a longer struct with bytes that are not zero".to_owned(), tail.to_owned());
    for member in of.members.iter().filter(|member| member.name != "struct_size") {
        let Field { kind, name, is_array } = member;
        let place = if *is_array { format!("{name}[0]") } else { name.clone() };
        if let Some(extremes) = extremes(kind) {
            for number in extremes.iter().filter(|number| !(name.ends_with("_count") && **number == "1")) {
                push(format!("{place} = {number}"), format!("changed->{place} = ({kind})({number});"));
            }
        } else if kind == "const char*" {
            for text in ["NULL", "bad_utf8", "zero_inside", "control_inside"] {
                push(format!("{place} = {text}"), format!("changed->{place} = {text};"));
            }
        } else {
            push(format!("{place} = NULL"), format!("changed->{place} = NULL;"));
        }
    }
    all
}

/// Handles: of nothing, of another type, closed, of another store.
fn handles(noun: &str) -> Vec<Value> {
    let mut all = values(&[&format!("g.{noun}"), "NULL"]);
    let other = if noun == "cursor" { "(void *)g.store" } else { "(void *)g.cursor" };
    all.push(value(other));
    if ["store", "cursor", "worker", "fence"].contains(&noun) {
        all.push(value(&format!("g.ended_{noun}")));
    }
    if noun == "store" {
        all.push(value("g.other_store"));
    }
    all
}

/// Everything that is passed for one parameter.
pub fn of_parameter(function: &Function, parameter: &Field, structs: &[Struct]) -> Result<Vec<Value>, String> {
    let Field { kind, name, .. } = parameter;
    let waits = function.name.ends_with("_poll") || function.name.ends_with("_wait") || function.name.contains("join");
    let base = kind.trim_start_matches("const ").trim_end_matches('*');
    let pointers = kind.matches('*').count();
    Ok(match (kind.as_str(), name.as_str()) {
        ("batpak_error_t**", _) => values(&["&g.err", "NULL"]),
        ("const batpak_error_t*" | "batpak_error_t*", _) => values(&["NULL", "(void *)g.cursor"]),
        (
            _,
            "store" | "cursor" | "worker" | "fence" | "batch" | "list" | "checkpoint" | "gaps" | "delivery" | "source",
        ) if pointers == 1 && base.starts_with("batpak_") && !base.ends_with("list_t") => {
            handles(match name.as_str() {
                "source" => "other_store",
                name => name,
            })
        }
        ("const batpak_gap_list_t*" | "batpak_gap_list_t*", _) => handles("gap_list"),
        ("const batpak_checkpoint_list_t*" | "batpak_checkpoint_list_t*", _) => handles("checkpoint_list"),
        ("const batpak_entity_list_t*" | "batpak_entity_list_t*", _) => handles("entity_list"),
        ("const batpak_status_info_t**", _) => values(&["(const batpak_status_info_t **)(void *)g.out", "NULL"]),
        (_, _) if pointers == 2 && base.starts_with("batpak_") => {
            let slot = base.trim_start_matches("batpak_").trim_end_matches("_t");
            values(&[&format!("&g.out_{slot}"), "NULL"])
        }
        (_, "size") if function.name.ends_with("_init") => {
            let of = function.parameters[0].kind.trim_end_matches('*');
            values(&[&format!("sizeof({of})"), "0", "1", "7", "sizeof g.out", "SIZE_MAX"])
        }
        (_, "stats") if !function.name.ends_with("_init") => values(&[&format!("prepared_{base}()"), "NULL"]),
        (_, "path") => values(&["g.fresh_path", "NULL", "\"\"", "\"/dev/null\"", "g.used_path"]),
        (_, "path_len") => values(&["strlen(g.fresh_path)", "0", "SIZE_MAX", "SIZE_MAX / 2 + 1"]),
        ("const char*", _) => {
            values(&["text", "NULL", "bad_utf8", "zero_inside", "control_inside", "\"../x\"", "long_text"])
        }
        ("size_t", _) if name.ends_with("_len") => values(&["4", "0", "1", "SIZE_MAX / 2 + 1", "SIZE_MAX"]),
        ("size_t", "n") if function.name.ends_with("append") => {
            values(&["2", "0", "1", "SIZE_MAX / 2 + 1", "SIZE_MAX"])
        }
        ("const void*", _) | ("const uint8_t*", _) => values(&["text", "NULL"]),
        ("void*", "user_data") => values(&["NULL", "&g"]),
        ("char*", _) => values(&["(char *)g.out", "NULL"]),
        ("size_t", "capacity") => values(&["sizeof g.out", "0", "1", "3"]),
        ("batpak_handler_fn", _) => values(&["handle", "NULL"]),
        ("batpak_wake_fn", _) => values(&["wake", "NULL"]),
        ("batpak_user_data_free_fn", _) => values(&["NULL", "free_nothing"]),
        ("int64_t", "timeout_ms") if waits => values(&["0", "1", "20"]),
        ("int64_t", "timeout_ms") => values(&["10000", "0", "1", "INT64_MAX"]),
        (number, _) if pointers == 0 => match extremes(number) {
            Some(extremes) => [&["1"], extremes].concat().into_iter().map(value).collect(),
            None => return Err(format!("{}: no value is known for {kind} {name}", function.name)),
        },
        (_, _) if kind.starts_with("const ") => {
            let Some(of) = structs.iter().find(|known| known.name == base) else {
                return Err(format!("{}: no value is known for {kind} {name}", function.name));
            };
            let right = format!("right_{base}()");
            let mut all = values(&[&right, "NULL"]);
            all.extend(structs_with(of, &right));
            all
        }
        // Out-parameters of the caller's.
        (_, _) if pointers == 1 => values(&["(void *)g.out", "NULL"]),
        _ => return Err(format!("{}: no value is known for {kind} {name}", function.name)),
    })
}
