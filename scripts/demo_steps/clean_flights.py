"""Cleans a file of flights in place: python clean_flights.py FLIGHTS.csv ."""

import sys

import pandas as pd

path = sys.argv[1]
raw = pd.read_csv(path)

# Cancelled and diverted flights never arrived: there is no delay to study.
flights = raw.dropna(subset=["arr_delay"])
flights = flights.drop_duplicates(["time_hour", "carrier", "flight", "origin"])

# Gaps had made floating-point numbers of these whole ones.
whole = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
flights = flights.astype(dict.fromkeys(whole, "int64"))

# A clock shows 00:00 at midnight, never 24:00.
clocks = ["dep_time", "arr_time"]
midnights = int((flights[clocks] == 2400).to_numpy().sum())
flights[clocks] = flights[clocks].replace(2400, 0)

flights.to_csv(path, index=False)
dropped = len(raw) - len(flights)
print(f"{len(raw):,} flights read, {dropped:,} that never arrived dropped, {midnights} midnights mended")
