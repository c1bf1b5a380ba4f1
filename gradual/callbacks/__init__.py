"""What watches a stage; none of them knows another."""
