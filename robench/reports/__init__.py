"""Everything that reads results and writes for people; torch is never imported here."""
