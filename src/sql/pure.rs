//! Names that may stand before a parenthesis in a statement that writes nothing.

/// True for a keyword, a type or a built-in function without side effects, in any case. Everything
/// else before a `(` may be a function that writes.
///
/// A function of the user's own with a name from this list and other argument types is not seen.
pub(super) fn may_stand_before_parenthesis(name: &[u8]) -> bool {
    let Some(first) = name.first() else { return false };
    names_with(*first).iter().any(|candidate| {
        candidate.len() == name.len() && name.eq_ignore_ascii_case(candidate.as_bytes())
    })
}

/// The part of the list that begins with this letter.
fn names_with(first: u8) -> &'static [&'static str] {
    let Some(letter) = usize::from(first | 0x20).checked_sub(usize::from(b'a')) else {
        return &[];
    };
    match (STARTS.get(letter), STARTS.get(letter + 1)) {
        (Some(start), Some(end)) => NAMES.get(*start..*end).unwrap_or_default(),
        _ => &[],
    }
}

/// Where in the list each letter begins, and its end behind them.
const STARTS: [usize; 27] = {
    let mut starts = [NAMES.len(); 27];
    let mut at = NAMES.len();
    while at > 0 {
        at -= 1;
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            let mut letter = (NAMES[at].as_bytes()[0] - b'a') as usize;
            // Letters without a name of their own begin where the next one does.
            starts[letter] = at;
            while letter > 0 {
                letter -= 1;
                starts[letter] = at;
            }
        }
    }
    starts
};

/// Sorted.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "abbrev", "abs", "acos", "acosd", "acosh", "age", "all", "and", "any", "any_value", "array",
    "array_agg", "array_append", "array_cat", "array_dims", "array_fill", "array_length",
    "array_lower", "array_ndims", "array_position", "array_positions", "array_prepend",
    "array_remove", "array_replace", "array_sample", "array_shuffle", "array_to_json",
    "array_to_string", "array_to_tsvector", "array_upper", "as", "ascii", "asin", "asind", "asinh",
    "atan", "atan2", "atand", "atanh", "avg", "between", "bigint", "bit", "bit_and", "bit_count",
    "bit_length", "bit_or", "bit_xor", "bool", "bool_and", "bool_or", "bpchar", "broadcast",
    "btrim", "by", "bytea", "cardinality", "case", "cast", "cbrt", "ceil", "ceiling", "char",
    "char_length", "character", "character_length", "chr", "cidr", "clock_timestamp", "coalesce",
    "col_description", "concat", "concat_ws", "convert_from", "convert_to", "corr", "cos", "cosd",
    "cosh", "cot", "cotd", "count", "covar_pop", "covar_samp", "cume_dist", "current_database",
    "current_date", "current_schema", "current_schemas", "current_setting", "current_time",
    "current_timestamp", "current_user", "date", "date_add", "date_bin", "date_part",
    "date_subtract", "date_trunc", "daterange", "dec", "decimal", "decode", "degrees", "dense_rank",
    "distinct", "div", "double", "else", "encode", "every", "except", "exists", "exp", "extract",
    "factorial", "family", "filter", "first_value", "float", "float4", "float8", "floor", "for",
    "format", "format_type", "from", "gcd", "gen_random_uuid", "generate_series",
    "generate_subscripts", "get_bit", "get_byte", "get_current_ts_config", "greatest", "group",
    "grouping", "has_any_column_privilege", "has_column_privilege", "has_database_privilege",
    "has_foreign_data_wrapper_privilege", "has_function_privilege", "has_language_privilege",
    "has_schema_privilege", "has_sequence_privilege", "has_server_privilege", "has_table_privilege",
    "has_tablespace_privilege", "has_type_privilege", "having", "host", "hostmask", "ilike", "in",
    "inet", "inet_client_addr", "inet_client_port", "inet_merge", "inet_same_family",
    "inet_server_addr", "inet_server_port", "initcap", "int", "int2", "int4", "int4range", "int8",
    "int8range", "integer", "intersect", "interval", "is", "isempty", "isfinite", "isnull", "join",
    "json", "json_agg", "json_array_elements", "json_array_elements_text", "json_array_length",
    "json_build_array", "json_build_object", "json_each", "json_each_text", "json_extract_path",
    "json_extract_path_text", "json_object", "json_object_agg", "json_object_keys",
    "json_populate_record", "json_populate_recordset", "json_strip_nulls", "json_to_record",
    "json_to_recordset", "json_typeof", "jsonb", "jsonb_agg", "jsonb_array_elements",
    "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array", "jsonb_build_object",
    "jsonb_each", "jsonb_each_text", "jsonb_extract_path", "jsonb_extract_path_text",
    "jsonb_insert", "jsonb_object", "jsonb_object_agg", "jsonb_object_keys", "jsonb_path_exists",
    "jsonb_path_exists_tz", "jsonb_path_match", "jsonb_path_query", "jsonb_path_query_array",
    "jsonb_path_query_first", "jsonb_populate_record", "jsonb_populate_recordset", "jsonb_pretty",
    "jsonb_set", "jsonb_set_lax", "jsonb_strip_nulls", "jsonb_to_record", "jsonb_to_recordset",
    "jsonb_typeof", "justify_days", "justify_hours", "justify_interval", "lag", "last_value",
    "lateral", "lcm", "lead", "least", "left", "length", "like", "limit", "ln", "localtime",
    "localtimestamp", "log", "log10", "lower", "lower_inc", "lower_inf", "lpad", "ltrim",
    "make_date", "make_interval", "make_time", "make_timestamp", "make_timestamptz", "masklen",
    "materialized", "max", "md5", "merge_action", "min", "min_scale", "mod", "mode", "name",
    "netmask", "network", "normalize", "not", "notnull", "now", "nth_value", "ntile", "null",
    "nullif", "num_nonnulls", "num_nulls", "numeric", "numnode", "numrange", "obj_description",
    "octet_length", "offset", "oid", "on", "or", "order", "over", "overlaps", "overlay",
    "parse_ident", "partition", "percent_rank", "percentile_cont", "percentile_disc",
    "pg_backend_pid", "pg_blocking_pids", "pg_char_to_encoding", "pg_client_encoding",
    "pg_column_size", "pg_conf_load_time", "pg_current_snapshot",
    "pg_current_xact_id_if_assigned", "pg_database_size",
    "pg_encoding_to_char", "pg_function_is_visible", "pg_get_constraintdef", "pg_get_expr",
    "pg_get_function_arguments", "pg_get_function_identity_arguments", "pg_get_function_result",
    "pg_get_functiondef", "pg_get_indexdef", "pg_get_keywords", "pg_get_partkeydef",
    "pg_get_ruledef", "pg_get_serial_sequence", "pg_get_statisticsobjdef", "pg_get_triggerdef",
    "pg_get_userbyid", "pg_get_viewdef", "pg_has_role", "pg_indexes_size", "pg_is_in_recovery",
    "pg_is_other_temp_schema", "pg_is_wal_replay_paused", "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn", "pg_last_xact_replay_timestamp", "pg_my_temp_schema",
    "pg_operator_is_visible", "pg_postmaster_start_time", "pg_relation_filenode",
    "pg_relation_size", "pg_size_pretty", "pg_sleep", "pg_sleep_for", "pg_sleep_until",
    "pg_table_is_visible", "pg_table_size", "pg_tablespace_location", "pg_tablespace_size",
    "pg_total_relation_size", "pg_type_is_visible", "pg_typeof", "pg_wal_lsn_diff",
    "phraseto_tsquery", "pi", "plainto_tsquery", "position", "power", "querytree", "quote_ident",
    "quote_literal", "quote_nullable", "radians", "random", "range_agg", "range_intersect_agg",
    "range_merge", "rank", "regclass", "regexp_count", "regexp_instr", "regexp_like",
    "regexp_match", "regexp_matches", "regexp_replace", "regexp_split_to_array",
    "regexp_split_to_table", "regexp_substr", "regr_avgx", "regr_avgy", "regr_count",
    "regr_intercept", "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "repeat",
    "replace", "reverse", "right", "round", "row", "row_number", "row_security_active",
    "row_to_json", "rpad", "rtrim", "scale", "select", "session_user", "set_bit", "set_byte",
    "set_masklen", "setweight", "sha224", "sha256", "sha384", "sha512", "shobj_description", "sign",
    "similar", "sin", "sind", "sinh", "smallint", "some", "split_part", "sqrt", "starts_with",
    "statement_timestamp", "stddev", "stddev_pop", "stddev_samp", "string_agg", "string_to_array",
    "string_to_table", "strip", "strpos", "substr", "substring", "sum", "tan", "tand", "tanh",
    "text", "then", "time", "timeofday", "timestamp", "timestamptz", "timetz", "to_ascii",
    "to_char", "to_date", "to_hex", "to_json", "to_jsonb", "to_number", "to_regclass",
    "to_regcollation", "to_regnamespace", "to_regoper", "to_regoperator", "to_regproc",
    "to_regprocedure", "to_regrole", "to_regtype", "to_timestamp", "to_tsquery", "to_tsvector",
    "transaction_timestamp", "translate", "trim", "trim_array", "trim_scale", "trunc", "ts_delete",
    "ts_filter", "ts_headline", "ts_rank", "ts_rank_cd", "tsquery_phrase", "tsrange",
    "tstzrange", "tsvector_to_array", "txid_current_if_assigned", "txid_current_snapshot", "union",
    "unistr", "unnest", "upper", "upper_inc", "upper_inf", "user", "using", "uuid", "values",
    "var_pop", "var_samp", "varbit", "varchar", "variance", "version", "websearch_to_tsquery",
    "when", "where", "width_bucket", "with", "within", "xmlagg", "xmlconcat", "xmlelement",
    "xmlforest", "xpath", "xpath_exists",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_found_and_in_lower_case() {
        assert!(NAMES.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(NAMES.iter().all(|name| may_stand_before_parenthesis(name.as_bytes())));
        assert!(NAMES.iter().all(|name| *name == name.to_lowercase()));
    }

    #[test]
    fn names_are_found_in_any_case_and_others_are_not() {
        for name in ["abs", "COUNT", "width_bucket", "Jsonb_Build_Object", "year"] {
            assert_eq!(may_stand_before_parenthesis(name.as_bytes()), name != "year", "{name}");
        }
        for name in ["nextval", "setval", "lo_import", "pg_reload_conf", "", &"x".repeat(99)] {
            assert!(!may_stand_before_parenthesis(name.as_bytes()), "{name}");
        }
    }
}
