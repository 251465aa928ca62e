"""Reports: of a comparison (`summary`, `figures`, `render`), of a study (`study`)."""
