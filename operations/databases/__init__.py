"""Operations on PostgreSQL databases: provision and drop."""
