"""A real local Spark job on a mount, with the committer that Spark comes with. P10, P13, P19, P22."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import REQUIRED, Mount, snapshot

pytestmark = [pytest.mark.mounted, pytest.mark.spark]

JOB = """
import json, os, sys
from pyspark.sql import SparkSession

mount = sys.argv[1]
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.driver.memory", "1g").config("spark.sql.shuffle.partitions", "4").getOrCreate())

def commit(message):
    with open(f"{mount}/exp/.ana/commit", "w") as file:
        file.write(message)

rows = [(number, number % 3, f"name {number}") for number in range(3000)]
frame = spark.createDataFrame(rows, "number int, part int, name string")
frame.write.partitionBy("part").parquet(f"{mount}/exp/table")
commit("by Spark")
frame.where("number < 900").write.mode("append").partitionBy("part").parquet(f"{mount}/exp/table")
commit("appended")
frame.where("number % 2 = 0").write.mode("overwrite").partitionBy("part").parquet(f"{mount}/exp/table")
commit("overwritten")

for version in 1, 2, 3:
    spark.read.parquet(f"{mount}/exp@{version}/table").createOrReplaceTempView(f"v{version}")
spark.read.parquet(f"{mount}/exp@head/table").createOrReplaceTempView("head")
counts = spark.sql(
    "SELECT a.part, a.n AS first, b.n AS second, c.n AS third, d.n AS head"
    " FROM (SELECT part, count(*) n FROM v1 GROUP BY part) a JOIN (SELECT part, count(*) n FROM v2 GROUP BY part) b"
    " USING (part) JOIN (SELECT part, count(*) n FROM v3 GROUP BY part) c USING (part)"
    " JOIN (SELECT part, count(*) n FROM head GROUP BY part) d USING (part) ORDER BY a.part"
)
gone = spark.sql("SELECT count(*) FROM v1 LEFT ANTI JOIN v3 USING (number)").first()[0]
print("RESULT", json.dumps([[list(row) for row in counts.collect()], gone]))
spark.stop()
"""


def test_spark_writes_a_branch_and_reads_versions_of_one_path_in_one_query(mount: Mount, tmp_path: Path):
    if importlib.util.find_spec("pyspark") is None:
        if REQUIRED:
            pytest.fail("pyspark is missing, and ANABRANCH_REQUIRE_FUSE=1", pytrace=False)
        pytest.skip("pyspark is not installed (the extra 'demo')")
    (mount.root / "exp").mkdir()
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": str(tmp_path / "spark")}
    ended = subprocess.run(
        [sys.executable, "-c", JOB, mount.root],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=570, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-5000:]
    line = next(line for line in ended.stdout.splitlines() if line.startswith("RESULT "))
    assert json.loads(line.removeprefix("RESULT ")) == [[[part, 1000, 1300, 500, 500] for part in range(3)], 1500]
    assert mount.messages("exp") == ["overwritten", "appended", "by Spark", ""]
    table = mount.root / "exp@1/table"
    assert {path.name for path in table.iterdir() if path.is_dir()} == {"part=0", "part=1", "part=2"}
    assert (table / "_SUCCESS").exists()
    assert not list((mount.root / "exp").rglob("*temporary*"))
    before = {version: snapshot(mount.root / version) for version in ("exp@1", "exp@2", "exp@3")}
    mount.remount()
    assert {version: snapshot(mount.root / version) for version in before} == before
