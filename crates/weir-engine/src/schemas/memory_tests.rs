//! The estimate is held against what the allocator gave.

use super::super::compile::compile;
use serde_json::{Map, Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts what the thread at work takes and gives back.
struct Counting;

fn count(bytes: isize) {
    // A thread that ends may give back what it cannot count any more.
    let _ = TAKEN.try_with(|taken| taken.set(taken.get() + bytes));
}

#[expect(unsafe_code, reason = "an allocator is what the trait asks for; every call is the system's")]
// SAFETY: hands every call on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a compiled schema takes, and what it is taken to take.
fn weighed(schema: Value) -> (usize, usize) {
    let work = move || {
        let before = TAKEN.get();
        let ready = compile(&schema).expect("taken");
        let taken = TAKEN.get() - before;
        (usize::try_from(taken).expect("more than nothing"), ready.bytes)
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(work).expect("a thread").join().expect("no panic")
}

#[test]
fn compiled_schemas_take_no_more_than_is_estimated() {
    let members = |count: usize, of: &dyn Fn(usize) -> Value| -> Value {
        json!({ "properties": (0..count).map(|n| (format!("member{n}"), of(n))).collect::<Map<_, _>>() })
    };
    // What all schemas have together is made with the first.
    weighed(json!({ "type": "object", "pattern": "^a", "enum": [1] }));
    let words: Vec<_> = (0..400).map(|n| format!("a value of some length {n}")).collect();
    for (what, schema) in [
        ("nothing", json!({})),
        (
            "a small one",
            json!({ "type": "object", "properties": { "total": { "type": "integer" } }, "required": ["total"] }),
        ),
        ("many members", members(900, &|_| json!({ "type": "integer" }))),
        (
            "many keywords",
            members(
                200,
                &|n| json!({ "type": ["string", "null"], "minLength": n, "maxLength": 900, "description": "x".repeat(90), "enum": ["a", "b"] }),
            ),
        ),
        ("a long list", json!({ "enum": words })),
        ("alternatives", json!({ "anyOf": (0..300).map(|n| json!({ "const": n })).collect::<Vec<_>>() })),
        (
            "references",
            json!({ "$defs": { "a": { "type": "string" } }, "allOf": vec![json!({ "$ref": "#/$defs/a" }); 300] }),
        ),
        (
            "plain expressions",
            members(60, &|n| json!({ "pattern": format!("^[a-z]{{1,{}}}-[0-9]+$", n + 1) })),
        ),
        (
            "large expressions",
            members(20, &|n| json!({ "pattern": format!("^(?:[a-z0-9]+,){{{}}}", 4 * (n + 1)) })),
        ),
        (
            "names by expressions",
            json!({ "patternProperties": { "^x-": { "type": "string" }, "y$": { "minLength": 1 } } }),
        ),
    ] {
        let (taken, estimated) = weighed(schema);
        println!("{what}: {taken} bytes are taken, {estimated} estimated");
        assert!(taken <= estimated, "{what}: {taken} bytes are taken, {estimated} estimated");
    }
}
