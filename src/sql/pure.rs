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
    "abs", "acos", "age", "all", "and", "any", "array", "array_agg", "array_append", "array_cat",
    "array_dims", "array_length", "array_lower", "array_ndims", "array_position",
    "array_positions", "array_prepend", "array_remove", "array_replace", "array_to_json",
    "array_to_string", "array_upper", "as", "ascii", "asin", "atan", "atan2", "avg", "between",
    "bigint", "bit", "bit_and", "bit_count", "bit_length", "bit_or", "bool", "bool_and",
    "bool_or", "bpchar", "btrim", "by", "cardinality", "case", "cast", "cbrt", "ceil", "ceiling",
    "char", "char_length", "character", "character_length", "chr", "clock_timestamp", "coalesce",
    "col_description", "concat", "concat_ws", "convert_from", "convert_to", "corr", "cos",
    "count", "covar_pop", "covar_samp", "cume_dist", "current_database", "current_date",
    "current_schema", "current_schemas", "current_setting", "current_time", "current_timestamp",
    "current_user", "date", "date_bin", "date_part", "date_trunc", "dec", "decimal", "decode",
    "degrees", "dense_rank", "distinct", "div", "double", "else", "encode", "every", "except",
    "exists", "exp", "extract", "factorial", "filter", "first_value", "float", "floor", "for",
    "format", "format_type", "from", "gcd", "generate_series", "generate_subscripts", "greatest",
    "group", "grouping", "has_column_privilege", "has_database_privilege", "has_schema_privilege",
    "has_table_privilege", "having", "ilike", "in", "inet_client_addr", "inet_server_addr",
    "inet_server_port", "initcap", "int", "int2", "int4", "int8", "integer", "intersect",
    "interval", "is", "isfinite", "isnull", "join", "json_agg", "json_array_elements",
    "json_array_elements_text", "json_array_length", "json_build_array", "json_build_object",
    "json_each", "json_each_text", "json_extract_path", "json_extract_path_text", "json_object",
    "json_object_agg", "json_object_keys", "json_populate_record", "json_strip_nulls",
    "json_to_record", "json_to_recordset", "json_typeof", "jsonb_agg", "jsonb_array_elements",
    "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array", "jsonb_build_object",
    "jsonb_each", "jsonb_each_text", "jsonb_extract_path", "jsonb_extract_path_text",
    "jsonb_object", "jsonb_object_agg", "jsonb_object_keys", "jsonb_path_exists",
    "jsonb_path_query", "jsonb_pretty", "jsonb_set", "jsonb_strip_nulls", "jsonb_to_recordset",
    "jsonb_typeof", "justify_days", "justify_hours", "justify_interval", "lag", "last_value",
    "lateral", "lcm", "lead", "least", "left", "length", "like", "limit", "ln", "localtime",
    "localtimestamp", "log", "log10", "lower", "lpad", "ltrim", "make_date", "make_interval",
    "make_time", "make_timestamp", "make_timestamptz", "materialized", "max", "md5", "min", "mod",
    "mode", "not", "notnull", "now", "nth_value", "ntile", "null", "nullif", "num_nonnulls",
    "num_nulls", "numeric", "obj_description", "octet_length", "offset", "on", "or", "order",
    "over", "overlaps", "overlay", "partition", "percent_rank", "percentile_cont",
    "percentile_disc", "pg_backend_pid", "pg_column_size", "pg_database_size",
    "pg_encoding_to_char", "pg_get_constraintdef", "pg_get_expr", "pg_get_indexdef",
    "pg_get_keywords", "pg_get_serial_sequence", "pg_get_userbyid", "pg_get_viewdef",
    "pg_is_in_recovery", "pg_relation_size", "pg_size_pretty", "pg_table_is_visible",
    "pg_table_size", "pg_total_relation_size", "pg_type_is_visible", "pg_typeof",
    "phraseto_tsquery", "pi", "plainto_tsquery", "position", "power", "quote_ident",
    "quote_literal", "quote_nullable", "radians", "random", "range_agg", "rank", "regexp_match",
    "regexp_matches", "regexp_replace", "regexp_split_to_array", "regexp_split_to_table",
    "regr_slope", "repeat", "replace", "reverse", "right", "round", "row", "row_number",
    "row_to_json", "rpad", "rtrim", "select", "session_user", "sha256", "shobj_description",
    "sign", "similar", "sin", "smallint", "some", "split_part", "sqrt", "starts_with",
    "statement_timestamp", "stddev", "stddev_pop", "stddev_samp", "string_agg", "string_to_array",
    "strpos", "substr", "substring", "sum", "tan", "text", "then", "time", "timeofday",
    "timestamp", "timestamptz", "to_ascii", "to_char", "to_date", "to_hex", "to_json", "to_jsonb",
    "to_number", "to_regclass", "to_regtype", "to_timestamp", "to_tsquery", "to_tsvector",
    "transaction_timestamp", "translate", "trim", "trunc", "ts_headline", "ts_rank", "ts_rank_cd",
    "txid_current_if_assigned", "union", "unnest", "upper", "user", "using", "values", "var_pop",
    "var_samp", "varbit", "varchar", "variance", "version", "websearch_to_tsquery", "when",
    "where", "width_bucket", "with", "within", "xmlagg",
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
