//! A map by link for a session's few links: a sorted vector, which is walked many times for each message.

use bowline_messages::LinkId;

/// Values by link, in the order of the links' numbers.
#[derive(Debug, Clone)]
pub(super) struct LinkMap<T>(Vec<(LinkId, T)>);

impl<T> Default for LinkMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> LinkMap<T> {
    fn place(&self, id: LinkId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(known, _)| *known)
    }

    pub(super) fn get(&self, id: &LinkId) -> Option<&T> {
        self.place(*id).ok().and_then(|place| self.0.get(place)).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, id: &LinkId) -> Option<&mut T> {
        self.place(*id).ok().and_then(|place| self.0.get_mut(place)).map(|(_, value)| value)
    }

    pub(super) fn contains_key(&self, id: &LinkId) -> bool {
        self.place(*id).is_ok()
    }

    /// Puts a value in; gives the one that it replaces.
    pub(super) fn insert(&mut self, id: LinkId, value: T) -> Option<T> {
        match self.place(id) {
            Ok(place) => self.0.get_mut(place).map(|(_, known)| std::mem::replace(known, value)),
            Err(place) => {
                self.0.insert(place, (id, value));
                None
            }
        }
    }

    pub(super) fn remove(&mut self, id: &LinkId) -> Option<T> {
        self.place(*id).ok().map(|place| self.0.remove(place).1)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &LinkId> {
        self.0.iter().map(|(id, _)| id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&LinkId, &T)> {
        self.0.iter().map(|(id, value)| (id, value))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&LinkId, &mut T)> {
        self.0.iter_mut().map(|(id, value)| (&*id, value))
    }
}

impl<T> IntoIterator for LinkMap<T> {
    type Item = (LinkId, T);
    type IntoIter = std::vec::IntoIter<(LinkId, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
impl<T> std::ops::Index<&LinkId> for LinkMap<T> {
    type Output = T;

    fn index(&self, id: &LinkId) -> &T {
        self.get(id).expect("a link that the test knows")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0..8_u32, proptest::option::of(any::<u8>())), 0..60)) {
            let (mut map, mut model) = (LinkMap::default(), BTreeMap::new());
            for (id, value) in steps {
                let id = LinkId(id);
                match value {
                    Some(value) => prop_assert_eq!(map.insert(id, value), model.insert(id, value)),
                    None => prop_assert_eq!(map.remove(&id), model.remove(&id)),
                }
                prop_assert_eq!((map.get(&id), map.contains_key(&id)), (model.get(&id), model.contains_key(&id)));
                prop_assert_eq!(map.get_mut(&id), model.get_mut(&id));
                prop_assert!(map.iter().eq(model.iter()) && map.iter_mut().eq(model.iter_mut()));
                prop_assert!(map.keys().eq(model.keys()) && map.values().eq(model.values()));
                prop_assert!(map.values_mut().eq(model.values_mut()));
            }
            prop_assert!(map.into_iter().eq(model));
        }
    }
}
