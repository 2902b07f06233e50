//! The layouts of the public structs, held against `tests/surface/layout.def`, which a C program holds against the
//! header. A frozen struct (event, receipt, position) keeps its numbers for ever; the others may grow at their end.

use std::mem::offset_of;

use super::batch::batpak_event_t;
use super::cursor::{batpak_cursor_options_t, batpak_cursor_position_t};
use super::entity::{batpak_entity_head_t, batpak_entity_t};
use super::fence::batpak_fence_options_t;
use super::gap::{batpak_gap_t, batpak_sequence_range_t};
use super::import::{batpak_import_options_t, batpak_import_result_t};
use super::region::batpak_region_t;
use super::store::{
    batpak_append_options_t, batpak_append_t, batpak_receipt_t, batpak_store_options_t, batpak_store_stats_t,
    batpak_watermarks_t,
};
use super::version::batpak_status_info_t;
use super::worker::{batpak_worker_options_t, batpak_worker_stats_t};

/// The lines of one struct as `layout.def` has them.
macro_rules! layout {
    ($type:ident: $($member:ident)*) => {
        [
            vec![format!("TYPE({}, {})", stringify!($type), size_of::<$type>())],
            vec![$(
                format!("MEMBER({}, {}, {})", stringify!($type), stringify!($member), offset_of!($type, $member))
            ),*],
        ]
        .concat()
    };
}

fn lines() -> Vec<String> {
    [
        layout!(batpak_status_info_t: code reserved name description),
        layout!(batpak_store_options_t: struct_size flags segment_bytes payload_bytes_max key_window durability
            reserved0 clock clock_user_data clock_user_data_free log log_user_data log_user_data_free reserved),
        layout!(batpak_append_t: struct_size kind schema flags entity entity_len scope scope_len payload payload_len
            causes cause_count batch_causes batch_cause_count correlation_id key key_len expected reserved0
            expected_clock reserved),
        layout!(batpak_fence_options_t: struct_size timeout_ms reserved),
        layout!(batpak_import_options_t: struct_size durability from_sequence reserved),
        layout!(batpak_import_result_t: next_sequence appended duplicates reserved),
        layout!(batpak_append_options_t: struct_size durability flags reserved0 reserved),
        layout!(batpak_receipt_t: sequence clock time_us id correlation_id durability flags leaf_hash reserved),
        layout!(batpak_watermarks_t: appended visible durable reserved),
        layout!(batpak_store_stats_t: struct_size reserved0 appended visible durable segments segments_sealed
            bytes_on_disk entities_in_memory memory_bytes cursors_open workers_running syncs epoch cut_bytes cut_events
            reserved),
        layout!(batpak_region_t: struct_size entity_match entity entity_len scope scope_len kind_match kind
            has_clock_range reserved0 clock_start clock_end reserved),
        layout!(batpak_event_t: sequence clock prev_sequence time_us id correlation_id kind schema flags cause_count
            entity entity_len scope scope_len payload payload_len causes reserved),
        layout!(batpak_sequence_range_t: start end),
        layout!(batpak_gap_t: expected_sequence delivered_sequence ranges range_count reserved),
        layout!(batpak_entity_head_t: exists reserved0 clock last_sequence reserved),
        layout!(batpak_entity_t: entity entity_len clock last_sequence reserved),
        layout!(batpak_cursor_options_t: struct_size flags checkpoint_id checkpoint_id_len direction reserved0
            gap_capacity reserved),
        layout!(batpak_cursor_position_t: next_sequence position scanned committed position_id reserved),
        layout!(batpak_worker_options_t: struct_size restart_policy batch_events batch_payload_bytes idle_wait_ms
            max_restarts retries_max within_ms retry_backoff_ms checkpoint_id checkpoint_id_len name name_len
            on_restart_budget_exhausted on_checkpoint_failure callback_user_data callback_user_data_free
            gap_capacity reserved),
        layout!(batpak_worker_stats_t: struct_size is_running batches events commits retries failures restarts
            reserved),
    ]
    .concat()
}

#[test]
fn layouts_are_those_of_layout_def() {
    let recorded: Vec<&str> = include_str!("../../tests/surface/layout.def")
        .lines()
        .filter(|line| line.starts_with("TYPE") || line.starts_with("MEMBER"))
        .collect();
    let lines = lines();
    assert_eq!(recorded, lines, "layout.def should have:\n{}", lines.join("\n"));
}
