"""Writes flights as Parquet, a directory for each month and origin: python spark_partition.py FLIGHTS.csv PARQUET ."""

import sys

from pyspark.sql import SparkSession

source, target = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.driver.memory", "1g")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)

flights = spark.read.csv(source, header=True, inferSchema=True)
flights.repartition("month", "origin").write.partitionBy("month", "origin").parquet(target)

print(f"{spark.read.parquet(target).count():,} flights written to {target}")
spark.stop()
