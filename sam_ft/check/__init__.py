"""One report about a data set before anything is trained: `inspect` reads it all, `report` tells, `samples` draws."""
