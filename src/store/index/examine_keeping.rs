//! What the index says of deleted entries and freed content, looked through: by it alone content is freed.

use super::{FLAG_LOST, Index, StoreError};
use rusqlite::Row;

/// Findings of a kind.
const TOLD_MAX: u32 = 20;

/// What is said of a row.
type Text = fn(&Row<'_>) -> rusqlite::Result<String>;

/// What there must not be, each with a text for its row.
const CHECKS: [(&str, Text); 7] = [
    ("SELECT object FROM unpunched WHERE object NOT IN (SELECT object FROM freed) LIMIT ?1", |row| {
        Ok(format!("object {} waits for its room to be given back, and was not freed", row.get::<_, i64>(0)?))
    }),
    (
        "SELECT DISTINCT f.object FROM freed f CROSS JOIN object_use u ON u.object = f.object
         CROSS JOIN placement p ON p.message = u.message WHERE p.deleted_at IS NULL LIMIT ?1",
        |row| {
            Ok(format!("object {} was freed, and entries that are there need it", row.get::<_, i64>(0)?))
        },
    ),
    (
        "SELECT DISTINCT f.object FROM freed f CROSS JOIN object_use u ON u.object = f.object
         CROSS JOIN placement p ON p.message = u.message
         CROSS JOIN in_grace g ON g.folder = p.folder AND g.deleted_at = p.deleted_at AND g.uid = p.uid LIMIT ?1",
        |row| {
            Ok(format!(
                "object {} was freed, and entries that can be had back need it",
                row.get::<_, i64>(0)?
            ))
        },
    ),
    // What came as a whole, or stands where whole reports do. What was placed later may be elsewhere, too, and the report gone.
    (
        "SELECT DISTINCT f.object FROM freed f CROSS JOIN object_use u ON u.object = f.object
         CROSS JOIN message m ON m.id = u.message CROSS JOIN placement p ON p.message = m.id
         CROSS JOIN folder r ON r.id = p.folder CROSS JOIN placement e ON e.receipt = p.receipt
         CROSS JOIN folder o ON o.id = e.folder AND o.gateway_mailbox = r.gateway_mailbox
         WHERE (m.sha256 IS NOT NULL OR instr(r.name, '/') = 0) AND e.message <> p.message
         AND (e.deleted_at IS NULL OR EXISTS (SELECT 1 FROM in_grace g
             WHERE g.folder = e.folder AND g.deleted_at = e.deleted_at AND g.uid = e.uid))
         AND NOT EXISTS (SELECT 1 FROM placed_later l WHERE l.folder = e.folder AND l.uid = e.uid) LIMIT ?1",
        |row| {
            Ok(format!(
                "object {} was freed, and entries that came by the report in it need it",
                row.get::<_, i64>(0)?
            ))
        },
    ),
    (
        "SELECT g.folder, g.uid FROM in_grace g LEFT JOIN placement p ON p.folder = g.folder AND p.uid = g.uid
         WHERE p.deleted_at IS NOT g.deleted_at LIMIT ?1",
        |row| {
            let (folder, uid) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
            Ok(format!("UID {uid} of folder {folder} can be had back, and was not deleted then"))
        },
    ),
    (
        "SELECT f.folder, f.uid FROM flags f LEFT JOIN placement p ON p.folder = f.folder AND p.uid = f.uid
         WHERE p.uid IS NULL OR p.deleted_at IS NOT NULL LIMIT ?1",
        |row| {
            let (folder, uid) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
            Ok(format!("UID {uid} of folder {folder} has flags, and is not there"))
        },
    ),
    (
        "SELECT m.id FROM message m WHERE m.flags & ?2 = 0 AND (
             NOT EXISTS (SELECT 1 FROM object_use u WHERE u.object = m.summary AND u.message = m.id)
             OR EXISTS (SELECT 1 FROM json_each(m.extents) e WHERE NOT EXISTS (
                 SELECT 1 FROM object_use u WHERE u.object = e.value ->> 'object' AND u.message = m.id))) LIMIT ?1",
        |row| {
            Ok(format!(
                "an object that message {} lies in is not said to be used by it",
                row.get::<_, i64>(0)?
            ))
        },
    ),
];

impl Index {
    /// Tells of freed content that is needed, and of what would have such content freed.
    pub(super) fn examine_keeping(
        &self,
        go_on: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(String),
    ) -> Result<(), StoreError> {
        for (sql, text) in CHECKS {
            if !go_on() {
                return Ok(());
            }
            let mut select = self.connection.prepare(sql)?;
            select.raw_bind_parameter(1, TOLD_MAX)?;
            if select.parameter_count() > 1 {
                select.raw_bind_parameter(2, FLAG_LOST)?;
            }
            let mut rows = select.raw_query();
            while let Some(row) = rows.next()? {
                tell(text(row)?);
            }
        }
        Ok(())
    }
}
