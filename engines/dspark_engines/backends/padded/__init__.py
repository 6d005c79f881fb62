"""Steps of fixed shapes, filled up with what nobody reads: for engines that want every size to be known."""
