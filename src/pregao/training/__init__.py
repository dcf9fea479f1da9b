"""From prices to a registered model: the Pipeline, Lightning classes, promotion, background jobs. No HTTP."""
