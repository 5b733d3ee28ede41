module ref

go 1.19
