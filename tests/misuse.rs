//! Misuse of the C surface (row R16 of the scorecard): a program is generated from include/batpak.h that calls every exported function
//! with each parameter wrong or extreme in turn, from the thread that made the objects, from another one, and from inside a handler. Each
//! call must return a listed status, tell of it in the error object, and leave out-parameters alone when it fails; the store goes on.
//!
//! `make test` runs the program as it is; with `RELIABILITY_TRIALS` it is also run under valgrind and with the address and
//! undefined-behaviour sanitizers. What is written by hand is in tests/c and tests/cpp.

#[path = "misuse/cases.rs"]
mod cases;
mod common;
#[path = "misuse/header.rs"]
mod header;
#[path = "common/reliability.rs"]
mod reliability;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use cases::Value;
use header::{Function, Struct};

/// One call: the parameter at `wrong` has that value, the others are right.
fn call(function: &Function, right: &[Value], wrong: Option<(usize, &Value)>) -> String {
    let arguments: Vec<&Value> = right
        .iter()
        .enumerate()
        .map(|(at, right)| wrong.filter(|wrong| wrong.0 == at).map_or(right, |w| w.1))
        .collect();
    let label = wrong.map_or("all right".to_owned(), |(at, value)| {
        format!("{} is {}", function.parameters[at].name, value.label.replace(['\\', '"'], "'"))
    });
    let name = &function.name;
    let prepare: String = arguments.iter().map(|value| value.prepare.as_str()).collect();
    let expressions: Vec<&str> = arguments.iter().map(|value| value.expression.as_str()).collect();
    let expressions = expressions.join(", ");
    let mut code = format!("    {{\n        {prepare}\n        before_call(\"{name}\", \"{label}\");\n");
    let takes_error = function.parameters.last().is_some_and(|last| last.kind == "batpak_error_t**");
    if function.returns == "batpak_status_t" && takes_error {
        let err_given = arguments.last().is_some_and(|last| last.expression == "&g.err");
        let _ = writeln!(code, "        after_status({name}({expressions}), {});", i32::from(err_given));
    } else if name == "batpak_batch_retain" {
        let _ = writeln!(code, "        batpak_batch_free({name}({expressions}));");
    } else {
        let _ = writeln!(code, "        (void){name}({expressions});\n        take_out(0);");
    }
    if name.ends_with("_free") && expressions.starts_with("g.") {
        let _ = writeln!(code, "        {expressions} = NULL;");
    }
    if cases::ends_objects(name) {
        code.push_str("        drop_objects();\n        make_objects();\n");
    }
    code.push_str("    }\n");
    code
}

/// All calls of one function.
fn calls(function: &Function, structs: &[Struct]) -> Result<String, String> {
    let parameters = function.parameters.iter();
    let values: Vec<Vec<Value>> =
        parameters.map(|parameter| cases::of_parameter(function, parameter, structs)).collect::<Result<_, _>>()?;
    let right: Vec<Value> = values.iter().map(|values| values[0].clone()).collect();
    let mut code = format!("static void calls_of_{}(void) {{\n", function.name);
    code += &call(function, &right, None);
    for (at, values) in values.iter().enumerate() {
        for wrong in &values[1..] {
            code += &call(function, &right, Some((at, wrong)));
        }
    }
    code.push_str("    canary();\n}\n\n");
    Ok(code)
}

const MAIN: &str = r#"
static void *all_calls(void *unused) {
    (void)unused;
    call_all();
    return NULL;
}

/* Everything again, with a delivery at hand. */
static int32_t call_all_inside(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)events, (void)n;
    g.delivery = delivery;
    call_all();
    g.delivery = NULL;
    return BATPAK_HANDLER_STOP;
}

static void tell(int signal) {
    (void)signal;
    static const char says[] = "still waiting in ";
    (void)!write(2, says, sizeof says - 1);
    (void)!write(2, g.function, strlen(g.function));
    (void)!write(2, ": ", 2);
    (void)!write(2, g.label, strlen(g.label));
    (void)!write(2, "\n", 1);
    _exit(3);
}

int main(void) {
    memset(long_text, 'l', sizeof long_text - 1);
    signal(SIGALRM, tell);
    alarm(1500);
    g.root = make_dir();
    make_objects();
    call_all();
    join_thread(start_thread(all_calls, NULL));
    batpak_store_t *host = open_new();
    append(host, "entity", "payload");
    batpak_worker_t *worker = NULL;
    CHECK_OK(batpak_worker_start(host, NULL, NULL, call_all_inside, NULL, NULL, &worker, &error), error);
    CHECK_OK(batpak_worker_join(worker, -1, &error), error);
    batpak_worker_free(worker);
    close_store(host);
    drop_objects();
    remove_dir(g.root);
    printf("calls %" PRIu64 "\n", g.calls);
    return 0;
}
"#;

/// The program's source.
fn generate() -> Result<String, String> {
    let header = fs::read_to_string(common::root().join("include/batpak.h")).map_err(|error| error.to_string())?;
    let (functions, structs) = (header::functions(&header), header::structs(&header));
    if functions.len() < 90 || structs.len() < 15 {
        return Err(format!("the header has {} functions and {} structs?", functions.len(), structs.len()));
    }
    let mut code = String::from("#include \"fixture.h\"\n\n");
    for function in &functions {
        code += &calls(function, &structs)?;
    }
    code.push_str("static void call_all(void) {\n");
    for function in &functions {
        let _ = writeln!(code, "    calls_of_{}();", function.name);
    }
    code.push_str("}\n");
    code.push_str(MAIN);
    Ok(code)
}

fn build(source: &Path, program: &Path, flags: &[&str]) {
    let library = common::library_dir("misuse");
    let output = Command::new(env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
        .args(["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-w", "-pthread"])
        .args(flags)
        .args(
            ["include", "tests/c", "tests/misuse"].map(|folder| format!("-I{}", common::root().join(folder).display())),
        )
        .arg("-o")
        .arg(program)
        .arg(source)
        .arg("-L")
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .args(["-lbatpak", "-ldl"])
        .output()
        .expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the program under a command, or as it is. Gives the number of its calls, or what it said.
fn run(under: &[&str], program: &Path) -> Result<u64, String> {
    // In memory where that is: thousands of stores are made.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
    let scratch = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
    let mut words = under.iter().map(PathBuf::from).chain([program.to_owned()]);
    let mut command = Command::new(words.next().expect("a program"));
    let output = command.args(words).env("TMPDIR", scratch.path()).output().map_err(|error| error.to_string())?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let count = said.lines().find_map(|line| line.strip_prefix("calls ")?.parse().ok());
    match count.filter(|_| output.status.success()) {
        Some(calls) => Ok(calls),
        None => Err(format!("{under:?}: {}\n{said}{complained}", output.status)),
    }
}

fn has(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn row_r16_every_function_answers_misuse() {
    let scratch = common::scratch_dir("misuse");
    fs::create_dir_all(&scratch).expect("a directory");
    let source = scratch.join("misuse.c");
    fs::write(&source, generate().unwrap_or_else(|message| panic!("{message}"))).expect("the source");
    let plain = scratch.join("plain");
    build(&source, &plain, &[]);
    let mut runs = vec![run(&[], &plain)];
    if env::var_os("RELIABILITY_TRIALS").is_some() {
        let sanitized = scratch.join("sanitized");
        build(&source, &sanitized, &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        runs.push(run(&[], &sanitized));
        match has("valgrind") {
            true => {
                let flags =
                    ["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"];
                runs.push(run(&flags, &plain));
            }
            false => println!("skipped: no valgrind here"),
        }
    }
    let calls = runs.iter().filter_map(|run| run.as_ref().ok()).sum();
    let failures: Vec<&String> = runs.iter().filter_map(|run| run.as_ref().err()).collect();
    reliability::report("R16", calls, failures.len() as u64, 0, "calls with a parameter wrong or extreme");
    for failure in &failures {
        println!("{failure}");
    }
    assert!(failures.is_empty());
}
