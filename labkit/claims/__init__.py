"""What five tutorials published, as claims that runs are held against. S2 asks questions and publishes no figure."""

from labkit.claims.figures import Runs, TooLittle
from labkit.claims.rules import FEWEST, Claim, Row, Rule, judge
from labkit.claims.tutorials import CLAIMS

__all__ = ["CLAIMS", "FEWEST", "Claim", "Row", "Rule", "Runs", "TooLittle", "judge"]
