//! One node at work: the loop that ties consensus, keeper, planner and supervisors together.
