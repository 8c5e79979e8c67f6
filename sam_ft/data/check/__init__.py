"""One report about a data set before anything is trained: `inspect` reads, `report` tells, `samples` draws."""
