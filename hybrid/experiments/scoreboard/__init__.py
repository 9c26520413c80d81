"""The scoreboard: every claim of the paper beside what committed records say."""
