"""Compares two versions of the flights in one query: python spark_compare.py BEFORE.csv AFTER.csv ."""

import sys

from pyspark.sql import SparkSession

before, after = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.driver.memory", "1g")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)

for view, path in ("before", before), ("after", after):
    spark.read.csv(path, header=True, inferSchema=True, nullValue="NA").createTempView(view)

spark.sql("""
    SELECT origin, b.flights AS flights_before, a.flights AS flights_after,
           b.unknown AS unknown_delays_before, a.unknown AS unknown_delays_after
    FROM (SELECT origin, count(*) AS flights, count_if(arr_delay IS NULL) AS unknown FROM before GROUP BY origin) b
    JOIN (SELECT origin, count(*) AS flights, count_if(arr_delay IS NULL) AS unknown FROM after GROUP BY origin) a
    USING (origin)
    ORDER BY origin
""").show()
spark.stop()
