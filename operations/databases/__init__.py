"""Operations on databases: provision and drop."""
