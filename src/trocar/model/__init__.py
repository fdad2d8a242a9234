"""What travels from room to room: frozen records with no behaviour beyond their own geometry."""
