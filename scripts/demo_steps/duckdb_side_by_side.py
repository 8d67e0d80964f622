"""Sets raw flights beside cleaned ones: python duckdb_side_by_side.py RAW.csv CLEAN.parquet ."""

import sys

import duckdb
import pyarrow.dataset as ds

raw_path, clean_path = sys.argv[1:]

# One side is DuckDB's own CSV reader, the other pyarrow's reader of partitioned Parquet.
raw = duckdb.read_csv(raw_path)
clean = duckdb.from_arrow(ds.dataset(clean_path, partitioning="hive"))

print(
    duckdb.sql("""
        SELECT month, r.flights AS raw, c.flights AS clean, r.flights - c.flights AS never_arrived, c.mean_delay
        FROM (SELECT month, count(*) AS flights FROM raw GROUP BY month) r
        JOIN (SELECT month, count(*) AS flights, round(avg(arr_delay), 1) AS mean_delay FROM clean GROUP BY month) c
        USING (month)
        ORDER BY month
    """)
)
