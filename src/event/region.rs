//! The one predicate for every read: entity or entity prefix, scope, kind, clock range.
//!
//! A region is valid iff
//! 1. its entity and scope, where set, are coordinate parts (the library's entities are allowed);
//! 2. its category, where set, is at most 15;
//! 3. its clock range, where set, has start <= end.
//!
//! The identity of a region is text that checkpoints store; see [`Region::identity`]. Different valid regions have
//! different identities, since coordinate parts have no `|` and no `=` and are never `*`.

use super::coordinate::{check_coordinate, is_reserved_entity, prefix_matches};
use super::kind::{CATEGORY_MAX, Kind};
use crate::error::{Error, Result};
use std::fmt::Write;

/// Which entities a region matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum EntityMatch {
    /// Every entity but the library's.
    #[default]
    Any,
    /// This entity, and those that go on from it with `:`.
    Prefix(String),
    /// This entity alone.
    Exact(String),
}

/// Which kinds a region matches. `None` and `Any` both match every kind but are different identities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum KindMatch {
    /// Every kind: nothing was said about it.
    #[default]
    None,
    /// Every kind: that was asked for.
    Any,
    /// Every kind of this category.
    Category(u8),
    /// This kind alone.
    Exact(Kind),
}

/// A predicate over events. Events of the library's entities (`batpak`, `batpak:...`) match only where [`Region::entity`]
/// names such an entity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Region {
    /// The entities.
    pub entity: EntityMatch,
    /// The scope; `None` is every scope.
    pub scope: Option<String>,
    /// The kinds.
    pub kind: KindMatch,
    /// The first and last clock; `None` is every clock.
    pub clock: Option<(u64, u64)>,
}

impl Region {
    /// Every event but those of the library's entities.
    pub fn all() -> Region {
        Region::default()
    }

    /// The region, of this entity and those that go on from it with `:`.
    #[must_use]
    pub fn with_entity_prefix(self, prefix: impl Into<String>) -> Region {
        Region { entity: EntityMatch::Prefix(prefix.into()), ..self }
    }

    /// The region, of this entity alone.
    #[must_use]
    pub fn with_entity(self, entity: impl Into<String>) -> Region {
        Region { entity: EntityMatch::Exact(entity.into()), ..self }
    }

    /// The region, of this scope alone.
    #[must_use]
    pub fn with_scope(self, scope: impl Into<String>) -> Region {
        Region { scope: Some(scope.into()), ..self }
    }

    /// The region, of these kinds.
    #[must_use]
    pub fn with_kind(self, kind: KindMatch) -> Region {
        Region { kind, ..self }
    }

    /// The region, of the clocks from `start` to `end`, both included.
    #[must_use]
    pub fn with_clock(self, start: u64, end: u64) -> Region {
        Region { clock: Some((start, end)), ..self }
    }

    /// Checks that the region is valid; the other methods suppose it.
    pub fn check(&self) -> Result<()> {
        if let EntityMatch::Prefix(entity) | EntityMatch::Exact(entity) = &self.entity {
            check_coordinate("entity", entity.as_bytes())?;
        }
        if let Some(scope) = &self.scope {
            check_coordinate("scope", scope.as_bytes())?;
        }
        match self.kind {
            KindMatch::Category(category) if category > CATEGORY_MAX => {
                return Err(Error::KindOutOfRange { value: u32::from(category) });
            }
            _ => {}
        }
        match self.clock {
            Some((start, end)) if start > end => Err(Error::ClockRangeInverted { start, end }),
            _ => Ok(()),
        }
    }

    /// `entity=E|scope=S|fact=F|clock=C`, then `|match=exact` for an exact entity.
    ///
    /// `*` where unset; F is `none`, `any`, `category:{hex}` or `exact:{category hex}:{type hex}`, lower case without
    /// padding; C is `{start}-{end}`.
    pub fn identity(&self) -> String {
        let entity = match &self.entity {
            EntityMatch::Any => "*",
            EntityMatch::Prefix(entity) | EntityMatch::Exact(entity) => entity,
        };
        let scope = self.scope.as_deref().unwrap_or("*");
        let mut identity = String::with_capacity(entity.len() + scope.len() + 96);
        // Writing to a `String` cannot fail.
        let _ = write!(identity, "entity={entity}|scope={scope}|fact=");
        let _ = match self.kind {
            KindMatch::None => write!(identity, "none"),
            KindMatch::Any => write!(identity, "any"),
            KindMatch::Category(category) => write!(identity, "category:{category:x}"),
            KindMatch::Exact(kind) => write!(identity, "exact:{:x}:{:x}", kind.category(), kind.type_number()),
        };
        let _ = match self.clock {
            None => write!(identity, "|clock=*"),
            Some((start, end)) => write!(identity, "|clock={start}-{end}"),
        };
        if matches!(self.entity, EntityMatch::Exact(_)) {
            identity.push_str("|match=exact");
        }
        identity
    }

    /// The region has events of this entity.
    #[inline]
    pub fn matches_entity(&self, entity: &str) -> bool {
        match &self.entity {
            EntityMatch::Any => !is_reserved_entity(entity),
            // A prefix of a reserved entity that ends at its `:` is itself reserved, so these two name what they match.
            EntityMatch::Prefix(prefix) => prefix_matches(prefix, entity),
            EntityMatch::Exact(exact) => exact == entity,
        }
    }

    /// The region has events of this scope.
    #[inline]
    pub fn matches_scope(&self, scope: &str) -> bool {
        self.scope.as_deref().is_none_or(|own| own == scope)
    }

    /// The region has events of this kind.
    #[inline]
    pub fn matches_kind(&self, kind: Kind) -> bool {
        match self.kind {
            KindMatch::None | KindMatch::Any => true,
            KindMatch::Category(category) => kind.category() == category,
            KindMatch::Exact(exact) => kind == exact,
        }
    }

    /// The region has events of this clock.
    #[inline]
    pub fn matches_clock(&self, clock: u64) -> bool {
        self.clock.is_none_or(|(start, end)| (start..=end).contains(&clock))
    }

    /// Nothing is filtered: the region has every event but those of the library's entities, which
    /// [`Region::matches_entity`] still refuses.
    #[inline]
    pub fn is_unfiltered(&self) -> bool {
        self.entity == EntityMatch::Any
            && self.scope.is_none()
            && matches!(self.kind, KindMatch::None | KindMatch::Any)
            && self.clock.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Checkpoints of every version hold these texts.
    #[test]
    fn identities_are_frozen() {
        let a = Region::all().with_entity_prefix("a");
        assert_eq!(Region::all().identity(), "entity=*|scope=*|fact=none|clock=*");
        assert_eq!(a.identity(), "entity=a|scope=*|fact=none|clock=*");
        assert_eq!(
            Region::all().with_entity("a").with_scope("s").with_kind(KindMatch::Any).with_clock(0, u64::MAX).identity(),
            "entity=a|scope=s|fact=any|clock=0-18446744073709551615|match=exact"
        );
        let kind = |kind| a.clone().with_kind(kind).identity();
        assert_eq!(kind(KindMatch::Category(0xB)), "entity=a|scope=*|fact=category:b|clock=*");
        assert_eq!(kind(KindMatch::Exact(Kind(0x301F))), "entity=a|scope=*|fact=exact:3:1f|clock=*");
        assert_eq!(kind(KindMatch::Exact(Kind(0))), "entity=a|scope=*|fact=exact:0:0|clock=*");
    }

    #[test]
    fn invalid_regions_are_refused_by_cause() {
        let all = Region::all;
        assert!(matches!(all().with_entity_prefix("").check(), Err(Error::CoordinateEmpty { part: "entity" })));
        assert!(matches!(all().with_entity("*").check(), Err(Error::CoordinateWildcard { part: "entity" })));
        assert!(matches!(all().with_scope("a|b").check(), Err(Error::CoordinateCharacter { part: "scope", .. })));
        assert!(matches!(all().with_clock(2, 1).check(), Err(Error::ClockRangeInverted { start: 2, end: 1 })));
        let category = all().with_kind(KindMatch::Category(16));
        assert!(matches!(category.check(), Err(Error::KindOutOfRange { value: 16 })));
        assert!(all().with_entity("batpak:audit").with_scope("s").with_clock(1, 1).check().is_ok());
        assert!(all().with_kind(KindMatch::Category(15)).check().is_ok());
    }

    #[test]
    fn the_librarys_events_go_only_to_regions_that_name_them() {
        let all = Region::all();
        assert!(!all.matches_entity("batpak") && !all.matches_entity("batpak:denial") && all.matches_entity("batpak2"));
        assert!(all.clone().with_entity_prefix("batpak").matches_entity("batpak:denial"));
        assert!(all.clone().with_entity_prefix("batpak:denial").matches_entity("batpak:denial:x"));
        assert!(all.clone().with_entity("batpak").matches_entity("batpak"));
        assert!(!all.clone().with_entity("batpak").matches_entity("batpak:denial"));
        assert!(!all.with_entity_prefix("bat").matches_entity("batpak"));
    }

    #[test]
    fn each_filter_filters() {
        let region = Region::all().with_scope("s").with_kind(KindMatch::Category(3)).with_clock(5, 7);
        assert!(region.matches_scope("s") && !region.matches_scope("s2"));
        assert!(region.matches_kind(Kind(0x3FFF)) && !region.matches_kind(Kind(0x4000)));
        assert_eq!((4..9).filter(|&clock| region.matches_clock(clock)).collect::<Vec<_>>(), [5, 6, 7]);
        let exact = Region::all().with_kind(KindMatch::Exact(Kind(0x3001)));
        assert!(exact.matches_kind(Kind(0x3001)) && !exact.matches_kind(Kind(0x3002)));
        assert!(Region::all().matches_clock(u64::MAX) && Region::all().matches_scope("") && !exact.is_unfiltered());
    }

    #[test]
    fn unfiltered_is_no_filter_at_all() {
        assert!(Region::all().is_unfiltered() && Region::all().with_kind(KindMatch::Any).is_unfiltered());
        assert!(
            !Region::all().with_scope("s").is_unfiltered() && !Region::all().with_clock(0, u64::MAX).is_unfiltered()
        );
        assert!(!Region::all().with_entity_prefix("a").is_unfiltered() && !region_of_category(0).is_unfiltered());
    }

    fn region_of_category(category: u8) -> Region {
        Region::all().with_kind(KindMatch::Category(category))
    }

    /// Few and treacherous values, so that two generated regions are often nearly the same.
    fn region() -> impl Strategy<Value = Region> {
        let part = || prop_oneof!["[a*:0-]{1,3}", "[ -~ż]{1,12}", Just("fact:none".to_owned())];
        let entity = prop_oneof![
            Just(EntityMatch::Any),
            part().prop_map(EntityMatch::Prefix),
            part().prop_map(EntityMatch::Exact),
        ];
        let kind = prop_oneof![
            Just(KindMatch::None),
            Just(KindMatch::Any),
            (0u8..16).prop_map(KindMatch::Category),
            prop_oneof![any::<u16>(), 0u16..3, 0x1000u16..0x1003].prop_map(|kind| KindMatch::Exact(Kind(kind))),
        ];
        let clock = proptest::option::of((prop_oneof![0u64..12, any::<u64>()], prop_oneof![0u64..12, any::<u64>()]));
        (entity, proptest::option::of(part()), kind, clock)
            .prop_map(|(entity, scope, kind, clock)| Region { entity, scope, kind, clock })
            .prop_filter("valid", |region| region.check().is_ok())
    }

    /// Two regions that differ in a random choice of their fields.
    fn region_pair() -> impl Strategy<Value = (Region, Region)> {
        (region(), region(), any::<[bool; 4]>()).prop_map(|(a, b, same)| {
            let pick = |index: usize| if same[index] { &a } else { &b };
            let mixed = Region {
                entity: pick(0).entity.clone(),
                scope: pick(1).scope.clone(),
                kind: pick(2).kind,
                clock: pick(3).clock,
            };
            (a, mixed)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn identity_is_injective((a, b) in region_pair()) {
            prop_assert_eq!(a == b, a.identity() == b.identity(), "{} {}", a.identity(), b.identity());
        }

        #[test]
        fn the_identity_can_be_taken_apart(region in region()) {
            let identity = region.identity();
            let fields: Vec<_> = identity.split('|').map(|field| field.split_once('=').unwrap()).collect();
            let names: Vec<_> = fields.iter().map(|field| field.0).collect();
            let exact = matches!(region.entity, EntityMatch::Exact(_));
            prop_assert_eq!(&names[..4], &["entity", "scope", "fact", "clock"]);
            prop_assert_eq!(&fields[4..], if exact { &[("match", "exact")][..] } else { &[] });
            prop_assert_eq!(fields[1].1, region.scope.as_deref().unwrap_or("*"));
        }

        #[test]
        fn only_named_library_entities_match(region in region(), tail in "(:[a-z:]{0,5})?") {
            let entity = format!("batpak{tail}");
            let named = match &region.entity {
                EntityMatch::Any => false,
                EntityMatch::Prefix(own) | EntityMatch::Exact(own) => is_reserved_entity(own),
            };
            prop_assert!(named || !region.matches_entity(&entity));
        }
    }
}
