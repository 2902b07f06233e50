//! Events as values: identity, coordinate, kind, region, the view handed to callers, and the leaf hash. No I/O.
//!
//! Everything above is built from these. Each rule about what a caller may say (a coordinate's bytes, a kind's category,
//! a region's range) is checked here and only here.

pub mod buffer;
pub mod coordinate;
pub mod hash;
pub mod id;
pub mod kind;
pub mod region;
pub mod view;

pub use buffer::{Buffer, BufferPool};
pub(crate) use buffer::{make_room, zeros};
pub use coordinate::{check_caller_entity, check_coordinate, is_reserved_entity, prefix_matches};
pub use hash::{CanonicalHeader, leaf_hash, payload_digest};
pub use id::{EventId, StoreId, TIME_US_MAX};
pub use kind::{EFFECT_CATEGORY, Kind, SYSTEM_CATEGORY, check_caller_kind};
pub use region::{EntityMatch, KindMatch, Region};
pub use view::{BatchBuilder, Event, EventBatch, EventFields, EventView, Events, FLAG_ERASED, NO_SEQUENCE};

/// Sequences are below this: an event id has 46 bits for them.
pub const SEQUENCE_LIMIT: u64 = 1 << 46;
/// Most causes of one event.
pub const CAUSES_MAX: usize = 64;
/// Most bytes of an entity, and of a scope.
pub const COORDINATE_BYTES_MAX: usize = 1024;
/// Most bytes of a payload, unless the store was created with another limit.
pub const PAYLOAD_BYTES_MAX_DEFAULT: usize = 16 << 20;
/// The highest limit a store can be created with.
pub const PAYLOAD_BYTES_MAX_LIMIT: usize = 64 << 20;
