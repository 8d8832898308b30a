//! The SQLSTATE codes that pgweir raises or looks for (`PostgreSQL` documentation, appendix A).

use crate::error::SqlState;

pub const CONNECTION_EXCEPTION: SqlState = SqlState(*b"08000");
pub const UNABLE_TO_CONNECT: SqlState = SqlState(*b"08001");
pub const CONNECTION_FAILURE: SqlState = SqlState(*b"08006");
pub const OUTCOME_UNKNOWN: SqlState = SqlState(*b"08007");
pub const PROTOCOL_VIOLATION: SqlState = SqlState(*b"08P01");
pub const FEATURE_NOT_SUPPORTED: SqlState = SqlState(*b"0A000");
pub const INVALID_PARAMETER: SqlState = SqlState(*b"22023");
pub const ACTIVE_TRANSACTION: SqlState = SqlState(*b"25001");
pub const READ_ONLY_TRANSACTION: SqlState = SqlState(*b"25006");
pub const IN_FAILED_TRANSACTION: SqlState = SqlState(*b"25P02");
pub const IDLE_IN_TRANSACTION_TIMEOUT: SqlState = SqlState(*b"25P03");
pub const INVALID_STATEMENT_NAME: SqlState = SqlState(*b"26000");
pub const INVALID_AUTHORIZATION: SqlState = SqlState(*b"28000");
pub const INVALID_PASSWORD: SqlState = SqlState(*b"28P01");
pub const INVALID_CATALOG_NAME: SqlState = SqlState(*b"3D000");
pub const SYNTAX_ERROR: SqlState = SqlState(*b"42601");
pub const UNDEFINED_OBJECT: SqlState = SqlState(*b"42704");
pub const DUPLICATE_STATEMENT: SqlState = SqlState(*b"42P05");
pub const TOO_MANY_CONNECTIONS: SqlState = SqlState(*b"53300");
pub const CONFIGURATION_LIMIT: SqlState = SqlState(*b"53400");
pub const PROGRAM_LIMIT: SqlState = SqlState(*b"54000");
pub const OBJECT_IN_USE: SqlState = SqlState(*b"55006");
pub const CANT_CHANGE_PARAMETER: SqlState = SqlState(*b"55P02");
pub const QUERY_CANCELED: SqlState = SqlState(*b"57014");
pub const ADMIN_SHUTDOWN: SqlState = SqlState(*b"57P01");
pub const CRASH_SHUTDOWN: SqlState = SqlState(*b"57P02");
pub const CANNOT_CONNECT_NOW: SqlState = SqlState(*b"57P03");
pub const IDLE_SESSION_TIMEOUT: SqlState = SqlState(*b"57P05");
pub const INTERNAL_ERROR: SqlState = SqlState(*b"XX000");
