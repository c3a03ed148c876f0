//! Lists in pages: ask for what comes after an id, get items and whether there are more.

/// The most items of one page; a greater limit is cut to it.
pub const MAX_PAGE: u32 = 1_000;

/// Which page is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After<I> {
    /// The last id of the page before; `None` starts at the beginning.
    pub after: Option<I>,
    /// At most so many items; cut to 1..=[`MAX_PAGE`].
    pub limit: u32,
}

impl<I> After<I> {
    /// The first page, of at most `limit` items.
    #[must_use]
    pub const fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// The limit as it is applied.
    pub(crate) fn applied_limit(&self) -> u32 {
        self.limit.clamp(1, MAX_PAGE)
    }

    /// What to ask the database for: one more than wanted, to know whether there are more.
    pub(crate) fn fetch_limit(&self) -> i64 {
        i64::from(self.applied_limit()) + 1
    }
}

/// Some items, in the order of their ids, which is the order of their making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// True when more follow after the last item.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// Cuts what [`After::fetch_limit`] brought to the page that was asked for.
    pub(crate) fn cut<I>(mut items: Vec<T>, asked: &After<I>) -> Self {
        let limit = asked.applied_limit() as usize;
        let has_more = items.len() > limit;
        items.truncate(limit);
        Self { items, has_more }
    }
}
