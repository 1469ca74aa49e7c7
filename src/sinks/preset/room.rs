//! An event that is too large, made smaller in a fixed order.
//!
//! Guarantees: what is shortened is still valid, and says so (`siemgate_shortened` in the body); the
//! order is: the body's longest lists, then its longest texts, then the lists and texts that the
//! preset takes from the finding. What cannot be made to fit is refused, never cut in the middle.

use bytes::Bytes;

use super::view::View;
use crate::core::route::Format;
use crate::formats::shorten;

/// Steps of shortening: most items of a list, most characters of a text.
const STEPS: [(usize, usize); 6] =
    [(100, 4_000), (20, 1_000), (5, 400), (2, 200), (1, 100), (0, 40)];

/// Write `view` with `write` into at most `room` bytes; `None` when that cannot be done.
pub(super) fn fit<'e>(
    view: impl Fn() -> View<'e>,
    room: usize,
    write: impl Fn(&View<'_>) -> Vec<u8>,
) -> Option<Vec<u8>> {
    let whole = view();
    let written = write(&whole);
    if written.len() <= room {
        return Some(written);
    }
    let over = written.len() - room;
    let body = whole.body();
    // Inside a text the body is longer than it is; half of what there is for it is a safe start.
    for wanted in [body.len().saturating_sub(over + over / 8), room / 2, room / 4, room / 8] {
        if let Some(shorter) = shorten::json(body, wanted) {
            let written = write(&view().with_body(Bytes::from(shorter), false));
            if written.len() <= room {
                return Some(written);
            }
        }
    }
    let least = shorten::json(body, room / 8).map(Bytes::from);
    STEPS.iter().find_map(|(lists, texts)| {
        let mut smaller = view();
        if let Some(body) = &least {
            smaller = smaller.with_body(body.clone(), false);
        }
        (smaller.lists, smaller.texts) = (*lists, *texts);
        let written = write(&smaller);
        (written.len() <= room).then_some(written)
    })
}

/// The same with what `format` makes of the event in place of its body. The format shortens.
pub(super) fn formatted<'e>(
    view: impl Fn() -> View<'e>,
    room: usize,
    format: &Format,
    write: impl Fn(&View<'_>) -> Vec<u8>,
) -> Option<Vec<u8>> {
    let around = write(&view().with_body(Bytes::from_static(b"{}"), false)).len();
    // Quoted and in its place a text is longer than it is.
    let rooms = [room, room.saturating_sub(around), room / 2, room / 4, room / 8];
    rooms.into_iter().find_map(|wanted| {
        let written = (format.write)(view().shaped, wanted)?;
        let is_text = !written.starts_with(b"{");
        let written = write(&view().with_body(written, is_text));
        (written.len() <= room).then_some(written)
    })
}
