module drift.invalid/load

go 1.22
